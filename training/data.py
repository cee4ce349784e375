"""What a run learns from, and what it is validated on: sources made of panoramas, sequences or rendered rooms."""

from __future__ import annotations

from dataclasses import dataclass

from ..caa.weights.kinds import Kind
from ..geometry.input_error import InputError
from ..geometry.panorama_views import PanoramaViews
from ..geometry.scene import Scene
from .encoding import Encoder
from .panoramas import ANY, Panorama, Panoramas
from .rooms import Rooms, WalkedRooms
from .samples import Sample, Source
from .sequences import PosedSequence, Sequences
from .validation import held_out

HELD_OUT = 1 << 62  # added to the seed of what a run does not learn from
ONE_IN = 8  # panoramas or sequences that are held out for validation; of fewer, none


@dataclass(frozen=True)
class Data:
    """What a run learns from: panoramas, or sequences, or (with neither) rendered rooms.

    cameras: of panoramas' views. Where rooms are walked through for depth weights, their size is that of the views.
    rooms: how many different ones; 0: a new one for each sample. views: of each sample of sequences and walks.
    """

    cameras: Scene
    panoramas: tuple[Panorama, ...] = ()
    sequences: tuple[PosedSequence, ...] = ()
    rooms: int = 0
    views: int = 12

    @property
    def yaws_matter(self) -> bool:
        """Whether it may be cheaper to keep latents of a few start yaws."""
        return bool(self.panoramas)

    def source(self, kind: Kind, encoder: Encoder, seed: int, yaws: int = ANY) -> Source:
        """What is learnt from."""
        if self.panoramas:
            return Panoramas(self._parted(self.panoramas)[0], self.cameras, encoder, kind, seed, yaws)
        if self.sequences:
            return Sequences(self._parted(self.sequences)[0], self.views, encoder, seed)
        return self._rendered(kind, encoder, seed)

    def held_out(self, kind: Kind, encoder: Encoder, seed: int, count: int) -> list[Sample]:
        """`count` samples for validation, always the same. Of few panoramas or sequences they are learnt from, too."""
        seed ^= HELD_OUT
        if self.panoramas:
            source = Panoramas(self._parted(self.panoramas)[1], self.cameras, encoder, kind, seed)
        elif self.sequences:
            source = Sequences(self._parted(self.sequences)[1], self.views, encoder, seed)
        else:
            source = self._rendered(kind, encoder, seed)
        return held_out(source, count, seed)

    def _rendered(self, kind: Kind, encoder: Encoder, seed: int) -> Source:
        cameras = self.cameras
        if kind.scene != PanoramaViews.kind:
            return WalkedRooms(self.views, cameras.width, cameras.height, encoder, seed, self.rooms)
        return Rooms(cameras, encoder, kind, seed, self.rooms)

    @staticmethod
    def _parted(things: tuple) -> tuple[tuple, tuple]:
        """Those that are learnt from, and those that are not (all, where there are few)."""
        count = len(things) // ONE_IN
        return (things[count:], things[:count]) if count else (things, things)


def check_data(data: Data, kind: Kind) -> None:
    """Raises InputError where cameras, pictures and kind do not belong together."""
    cameras = data.cameras
    if kind.scene != cameras.kind:
        raise InputError(f"kind is {kind.name}, and the cameras are a {cameras.kind}'s", f"cameras_of_{kind.scene}")
    if not cameras.sampled:
        raise InputError("the cameras are a cube's, whose faces do not overlap", "no_neighbours")
    if cameras.views == 1:
        raise InputError("there is one camera, and a view alone has nobody to agree with", "one_camera")
    if cameras.width % 64 or cameras.height % 64:
        raise InputError(
            f"the cameras' views are {cameras.width} x {cameras.height} pixels: width and height must be multiples of "
            "64."
        )
    if apart := cameras.apart():
        raise InputError(
            f"nothing could be learnt in {cameras.name(apart[0])}, which overlaps no other",
            f"nothing_overlaps_{cameras.kind}",
        )
