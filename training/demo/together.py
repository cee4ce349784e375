"""UNet, text encoder and the blocks of all kinds learn together: on scenes whose views attend to each other, and, so
that the UNet stays one that paints by itself, on single views.

The published blocks learn beside a frozen UNet, as Train CAA has it. This UNet is small and its training short, and it
learns more beside the blocks than alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from ...caa.blocks import CAA
from ...geometry.agreement import agreement
from ...geometry.layouts import ring
from ..run import Geometries, Geometry, Run
from ..samples import known_ends
from . import diffusion
from .around import SORT_SHARES, SORTS, Around
from .fused import fuse_blocks
from .kinds import draw_kind, drawn_by_shares
from .latents import Latents
from .parts import learning_together
from .rooms import FOV_DEG
from .unet import CFG, SAMPLER_STEPS, SHORTENED, WITHOUT_CAPTION, UnetTask
from .walks import Walks

VIEWS, SCENES = 8, 8  # of a scene; scenes in a step
ALONE = 0.1  # of the steps are on single views
BESIDE = 0.4  # of the given pictures reach into the views beside theirs
LOOKED_AT = 2  # panoramas that are painted to look how it goes


class Scenes(NamedTuple):
    """P scenes of V views as P V rows.

    clean: (P V, 4, h, w). extra: (P V, k, h, w), what follows the noisy latents. rows: (P V, 77).
    geometry: of each scene. condition: (V, 5, h, w) of each, or None. timesteps: below which noise is drawn.
    """

    clean: torch.Tensor
    extra: torch.Tensor
    rows: torch.Tensor
    geometry: list[Geometry]
    condition: list[torch.Tensor | None]
    timesteps: int = diffusion.STEPS


class Apart:
    """A run of scenes with cameras of their own: each part of the rows has one."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs

    def apply(self, name: str, x: torch.Tensor) -> torch.Tensor:
        parts = x.chunk(len(self._runs))
        return torch.cat([run.apply(name, part) for run, part in zip(self._runs, parts, strict=True)])


class Together(UnetTask):
    """Trains `shared`, `text` and `blocks`, the CAA of each kind (of several, where they share it).

    options: what the UNet of the host is told of a run. walks: depth's scenes. around: further ones of panorama, by
    their sort. Nothing is learnt from what is held out.
    """

    def __init__(
        self,
        *base,
        blocks: Mapping[str, CAA],
        options: Callable[[object], dict],
        walks: Walks,
        held_out_walks: Walks,
        around: Mapping[str, Around],
        held_out_around: Mapping[str, Around],
        held_out: Latents,
        captions: Sequence[Sequence[str]],
        decode: Callable[[torch.Tensor], torch.Tensor],
        sheet: Callable[[str, torch.Tensor, Sequence[str]], None],
        **further,
    ) -> None:
        super().__init__(*base, held_out=held_out, captions=captions, draw=lambda *what: None, **further)
        self.blocks = self.machine.place(fuse_blocks(nn.ModuleDict(dict(blocks))))
        self.all_captions, self.options, self.decode, self.sheet = captions, options, decode, sheet
        self.walks, self.held_out_walks, self.held_out_rings = walks, held_out_walks, held_out
        self.around, self.held_out_around = around, held_out_around
        self.optimiser = self._optimiser(learning_together(self.shared, self.text, self.blocks))
        size = self.grey.shape[-1] * 8
        self.ring = Geometry(ring(VIEWS, FOV_DEG, size, size))
        self.geometry_around = {sort: Geometry(of.cameras) for sort, of in SORTS.items()}
        self._geometries = Geometries(kept=len(walks.cameras) + len(held_out_walks.cameras))

    def loss(self, random: torch.Generator, step: int) -> torch.Tensor:
        if torch.rand((), generator=random) < ALONE:
            return super().loss(random, step)
        kind = draw_kind(random)
        return self._error(kind, self.drawn_scenes(kind, random), random, with_blocks=True)

    def drawn_scenes(self, kind: str, random: torch.Generator) -> Scenes:
        """SCENES scenes of a kind, their captions shortened or left out now and then."""
        if kind == "depth":
            chosen = torch.randint(len(self.walks.cameras), (SCENES,), generator=random)
            known = (torch.rand(SCENES, generator=random) < 0.5).tolist()
            scenes = self.walked(self.walks, chosen.tolist(), known)
        elif kind == "panorama" and (sort := drawn_by_shares(SORT_SHARES, random)):
            count = SORTS[sort].at_once
            chosen = torch.randint(len(self.around[sort].clean), (count,), generator=random)
            short = torch.rand(count, generator=random) < SHORTENED
            scenes = self.scenes_around(sort, self.around[sort], chosen, short)
        else:
            rooms = torch.randint(len(self.data.clean), (SCENES,), generator=random)
            first = torch.randint(self.data.clean.shape[1], (SCENES,), generator=random)
            beside = torch.rand(SCENES, generator=random) < BESIDE
            short = torch.rand(SCENES, generator=random) < SHORTENED
            scenes = self.rings(kind, self.data, rooms, first, short, beside)
        rows = scenes.rows.clone()
        count = len(scenes.geometry)
        rows.view(count, -1, rows.shape[-1])[torch.rand(count, generator=random) < WITHOUT_CAPTION] = self.empty
        return scenes._replace(rows=rows)

    def rings(
        self,
        kind: str,
        data: Latents,
        rooms: torch.Tensor,
        first: torch.Tensor,
        short: torch.Tensor | None = None,
        beside: torch.Tensor | None = None,
    ) -> Scenes:
        """Panoramas of rooms (P,) whose view 0 is view `first` (P,) of those that there are.

        Of outpainting view 0 is given; where `beside`, what is there of masked views, too.
        """
        count = len(rooms)
        views = (first[:, None] + 2 * torch.arange(VIEWS)) % data.clean.shape[1]
        rooms, views = rooms.repeat_interleave(VIEWS), views.flatten()
        clean = data.clean[rooms, views].float()
        short = torch.zeros(count, dtype=torch.long) if short is None else short.long()
        rows = data.rows[rooms, views, short.repeat_interleave(VIEWS)].long()
        extra = clean[:, :0]
        if kind == "outpainting":
            mask, given = torch.ones_like(clean[:, :1]), self.grey.expand_as(clean).clone()
            mask[::VIEWS], given[::VIEWS] = 0, clean[::VIEWS]
            for i in () if beside is None else beside.repeat_interleave(VIEWS).nonzero()[:, 0].tolist():
                partial = (data.partial_views[rooms[i]] == views[i]).nonzero()
                if i % VIEWS and len(partial):
                    place = int(partial[0, 0])
                    mask[i, 0], given[i] = data.masks[rooms[i], place].float(), data.partial[rooms[i], place].float()
            extra = torch.cat((mask, given), 1)
        return Scenes(clean, extra, rows, [self.ring] * count, [None] * count)

    def scenes_around(self, sort: str, data: Around, chosen: torch.Tensor, short: torch.Tensor) -> Scenes:
        """Those of a sort (P,) that are chosen; of some (P,) bool the captions are shortened."""
        clean = data.clean[chosen].float().flatten(0, 1)
        rows = data.rows[chosen, :, short.long()].long().flatten(0, 1)
        count = len(chosen)
        geometry = [self.geometry_around[sort]] * count
        return Scenes(clean, clean[:, :0], rows, geometry, [None] * count, SORTS[sort].timesteps)

    def walked(self, walks: Walks, chosen: Sequence[int], known: Sequence[bool]) -> Scenes:
        """Walks, of some of which both ends are known."""
        clean = walks.clean[list(chosen)].float()
        cameras = [walks.cameras[number] for number in chosen]
        condition = [known_ends(views) if ends else None for views, ends in zip(clean, known, strict=True)]
        rows = walks.rows[list(chosen)][:, :, 0].long().flatten(0, 1)
        extra = walks.inputs[list(chosen)].flatten(0, 1)
        return Scenes(clean.flatten(0, 1), extra, rows, [self._geometries.of(one) for one in cameras], condition)

    def look(self, step: int) -> str:
        """Held-out losses with and without blocks, Overlap PSNR of what is painted, and sheets of it."""
        said = []
        with torch.no_grad():
            for shown in (*self.blocks, *SORTS):
                kind = "panorama" if shown in SORTS else shown
                scenes = self._held_out_scenes(shown, 8)
                losses = (self._error(kind, scenes, torch.Generator().manual_seed(0), with_) for with_ in (True, False))
                said.append(f"{shown} loss {next(losses):.4f}, without blocks {next(losses):.4f}")
                scenes = self._held_out_scenes(shown, LOOKED_AT)
                for with_blocks in (True, False) if scenes.timesteps == diffusion.STEPS else ():
                    pictures = self.decode(self.painted(kind, scenes, with_blocks))
                    name = f"{shown}{'' if with_blocks else '-alone'}-{step:06d}"
                    self.sheet(name, pictures, self._captions_of(shown) if with_blocks else ())
                    said.append(f"{'with' if with_blocks else 'without'} {self._psnr(pictures, scenes):.2f} dB")
        return ", ".join(said)

    def painted(self, kind: str, scenes: Scenes, with_blocks: bool = True, seed: int = 0) -> torch.Tensor:
        """(P V, 4, h, w) latents painted in the place of the scenes'."""
        start = torch.randn(scenes.clean.shape, generator=torch.Generator().manual_seed(seed))
        rows = torch.cat((scenes.rows, self.empty.expand(len(scenes.rows), -1)))

        def predict(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            x = torch.cat((latents, scenes.extra), 1).repeat(2, 1, 1, 1)
            noise = self._noise(kind, x, timesteps.repeat(2), rows, self._told(kind, scenes, 2, with_blocks))
            wanted, unwanted = noise.cpu().chunk(2)
            return unwanted + CFG * (wanted - unwanted)

        return diffusion.ddim(predict, start, SAMPLER_STEPS)

    def _error(self, kind: str, scenes: Scenes, random: torch.Generator, with_blocks: bool) -> torch.Tensor:
        views = len(scenes.clean) // len(scenes.geometry)
        timesteps = diffusion.stratified(len(scenes.geometry), random) * scenes.timesteps // diffusion.STEPS
        timesteps = timesteps.repeat_interleave(views)
        noise = torch.randn(scenes.clean.shape, generator=random)
        x = torch.cat((diffusion.noisy(scenes.clean, noise, timesteps), scenes.extra), 1)
        predicted = self._noise(kind, x, timesteps, scenes.rows, self._told(kind, scenes, 1, with_blocks))
        error = (predicted - noise.to(predicted)).square().mean((1, 2, 3))
        return (error * self.weights[timesteps].to(error)).mean()

    def _told(self, kind: str, scenes: Scenes, times: int, with_blocks: bool) -> dict:
        return self.options(self._run(kind, scenes, times) if with_blocks else None)

    def _run(self, kind: str, scenes: Scenes, times: int) -> Run | Apart:
        """What the UNet's places call for scenes that stand `times` times in the batch."""
        caa = self.blocks[kind]
        if kind != "depth":
            return Run(caa, scenes.geometry[0])
        condition = [known if known is None else self.machine.tensor(known) for known in scenes.condition]
        each = list(zip(scenes.geometry, condition, strict=True)) * times
        return Apart([Run(caa, geometry, known) for geometry, known in each])

    def _held_out_scenes(self, kind: str, count: int) -> Scenes:
        if kind == "depth":
            return self.walked(self.held_out_walks, range(count), [number % 2 == 1 for number in range(count)])
        if kind in SORTS:
            whole = torch.zeros(count, dtype=torch.bool)
            return self.scenes_around(kind, self.held_out_around[kind], torch.arange(count), whole)
        return self.rings(kind, self.held_out_rings, torch.arange(count), torch.zeros(count, dtype=torch.long))

    def _captions_of(self, kind: str) -> list[str]:
        scenes = self.held_out_walks if kind == "depth" else self.held_out_around.get(kind)
        if scenes is not None:
            return [text for said in scenes.captions[:LOOKED_AT] for text in said]
        return [said[view] for said in self.all_captions[:LOOKED_AT] for view in range(0, 2 * VIEWS, 2)]

    def _psnr(self, pictures: torch.Tensor, scenes: Scenes) -> float:
        """The mean over scenes."""
        views = (pictures.clamp(-1, 1).movedim(1, -1) + 1) / 2
        each = zip(views.chunk(len(scenes.geometry)), scenes.geometry, strict=True)
        found = [agreement(part, geometry.cameras).psnr for part, geometry in each]
        return sum(found) / len(found)
