"""Samples rendered on the spot: furnished rooms without end, with captions, exact depth and poses."""

from __future__ import annotations

import torch

from ..caa.weights.kinds import Kind
from ..geometry.cameras import Cameras
from ..geometry.panorama_views import PanoramaViews
from ..geometry.posed import PosedViews
from ..scenes.captions import captions_of
from ..scenes.paths import walk
from ..scenes.render import render
from ..scenes.room import Room, random_room
from ..scenes.viewpoints import viewpoint
from .encoding import Encoder
from .samples import Sample, Text, known_ends
from .streams import stream, whole
from .turning import turned

SEEDS = 2**31  # of rooms
SAMPLES = 2  # squared, rays per pixel


class Rooms:
    """Panoramas of rooms, seen from a place in each, from a random start yaw of whole degrees.

    rooms: how many different ones; 0: a new one for each sample. about a room: its seed, so that it is the same anew.
    """

    alike = True

    def __init__(self, cameras: PanoramaViews, encoder: Encoder, kind: Kind, seed: int, rooms: int = 0) -> None:
        self._cameras, self._encoder, self._kind = cameras, encoder, kind
        self._seed, self._rooms = seed, rooms

    @property
    def empty(self) -> Text:
        """The text of no caption."""
        return self._encoder.empty

    def about(self) -> dict[str, object]:
        """How many rooms there are."""
        return {"rooms": self._rooms}

    def sample(self, number: int, generator: torch.Generator) -> Sample:
        """Sample `number` of the whole training."""
        seed = room_seed(self._seed, number % self._rooms if self._rooms else number)
        yaw = whole(generator, 360)
        pictures, captions = self.views(seed, yaw)
        latents = self._encoder.latents(pictures)
        size = self._cameras.height, self._cameras.width
        inputs = self._encoder.inputs(self._kind, latents, size)
        text = self._encoder.passing_captions(captions)
        return Sample(f"room {seed} from yaw {yaw}", self._cameras, latents, text, inputs)

    def views(self, seed: int, yaw_deg: int) -> tuple[torch.Tensor, list[str]]:
        """(V, H, W, 3) pictures of a room from a start yaw, and what they show."""
        room, looking = random_room(seed), turned(self._cameras, yaw_deg)
        cam_to_world = looking.cam_to_world.clone()
        cam_to_world[:, :3, 3] = viewpoint(room, seed)
        cameras = Cameras(looking.intrinsics, cam_to_world, looking.width, looking.height)
        return _rendered(room, cameras)[:2]


class WalkedRooms:
    """Walks through rooms for depth weights: views in a row with their depth. In every second sample ends are known.

    views: of each sample. width, height: in pixels.
    """

    alike = False

    def __init__(self, views: int, width: int, height: int, encoder: Encoder, seed: int, rooms: int = 0) -> None:
        self._views, self._size, self._encoder = views, (width, height), encoder
        self._seed, self._rooms = seed, rooms

    @property
    def empty(self) -> Text:
        """The text of no caption."""
        return self._encoder.empty

    def about(self) -> dict[str, object]:
        """How many rooms there are, and how they are seen."""
        return {"rooms": self._rooms, "views": self._views, "size": list(self._size)}

    def sample(self, number: int, generator: torch.Generator) -> Sample:
        """Sample `number` of the whole training: even ones are generated, odd ones are made between known ends."""
        seed = room_seed(self._seed, number // 2 % self._rooms if self._rooms else number // 2)
        path = whole(generator, SEEDS)
        room = random_room(seed)
        walked = walk(room, path, self._views, *self._size)
        pictures, captions, depth = _rendered(room, walked)
        cameras = PosedViews(walked.intrinsics, walked.cam_to_world, *self._size, depth=depth)
        latents = self._encoder.latents(pictures)
        return Sample(
            f"room {seed} on walk {path}",
            cameras,
            latents,
            self._encoder.passing_captions(captions),
            cameras.own_inputs(*latents.shape[2:]),
            known_ends(latents) if number % 2 else None,
        )


def room_seed(seed: int, number: int) -> int:
    """The room of a number in a training of that seed."""
    return whole(stream(seed, "room", number), SEEDS)


def _rendered(room: Room, cameras: Cameras) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    rendering = render(room, cameras, SAMPLES)
    return rendering.images, captions_of(room, rendering.things), rendering.depth
