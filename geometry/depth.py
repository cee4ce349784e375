"""Correspondences of posed views with depth: each query is lifted by its depth and carried to the views beside it.

What section 4.2 of the paper describes, as the published model does it: one sample per query and neighbour, and a
position code that tells how much the query's depth differs from what the neighbour has there.

Everywhere `depth` is (V, H, W), z in finite metres at the cameras' full size, 0 = no reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from .cameras import Cameras
from .correspondence import Correspondences, Features, Pair, SampleTable
from .input_error import InputError
from .threads import SERIAL

MIN_OVERLAP = 0.3  # views that overlap by more than this are neighbours: what the weights were trained with
NO_POINT = -1e6  # both coordinates of an image point that is none
NO_DEPTH = 1e6  # metres: in place of the neighbour's depth in a sample that is not valid
BLOCK = SERIAL // 3  # pixels, of three numbers each, whose overlap is computed at once
EPSILON = 1e-6  # metres, added to z before it divides


def depth_correspondences(
    cameras: Cameras, depth: torch.Tensor, height: int, width: int, neighbours: list[list[int]]
) -> Correspondences:
    """Correspondences of V posed views at features `height` x `width` under the cameras' images.

    neighbours: whom each view attends to. Raises InputError for depth of another shape than the cameras'.
    """
    _check(cameras, depth)
    features = Features.of(cameras, height, width)
    pairs, tables = [], []
    for view, key_views in enumerate(neighbours):
        pairs += [Pair(view, key_view, len(tables) + number) for number, key_view in enumerate(key_views)]
        tables += _view_tables(cameras, depth, view, key_views, features)
    return Correspondences(cameras.views, height, width, tuple(pairs), tuple(tables))


def depth_neighbours(overlaps: torch.Tensor, min_overlap: float = MIN_OVERLAP) -> list[list[int]]:
    """For each view all others that overlap it by more than `min_overlap`, ascending. overlaps: (V, V).

    Where there is none, the views beside it in order: one at either end, else both.
    """
    neighbours = []
    for view, near in enumerate((overlaps > min_overlap).tolist()):
        others = [other for other in range(len(near)) if near[other] and other != view]
        neighbours.append(others or [other for other in (view - 1, view + 1) if 0 <= other < len(near)])
    return neighbours


class DepthOverlaps:
    """How much the views of a sequence overlap: each pair is computed when it is first asked for, and then kept.

    Raises InputError for depth of another shape than the cameras'.
    """

    def __init__(self, cameras: Cameras, depth: torch.Tensor) -> None:
        _check(cameras, depth)
        self._cameras, self._depth = cameras, depth
        with torch.inference_mode(False):  # filled in later, perhaps outside the host's inference mode
            self._shares = torch.full((cameras.views, cameras.views), torch.nan, dtype=torch.float64).fill_diagonal_(1)

    def of(self, views: Sequence[int], progress: Callable[[int, int], None] | None = None) -> torch.Tensor:
        """(n, n) overlaps of some of the views, in that order, each with each; a tensor of the caller's own.

        Symmetric, 0..1: those of `depth_overlap`; 1 of a view with itself.
        progress: is told of how many views the missing overlaps are computed, and of how many there are any. It may
            raise, to stop.
        """
        places = torch.tensor(list(views))
        missing = self._shares[places[:, None], places].isnan()
        one_way, incomplete = {}, missing.any(1).nonzero().flatten().tolist()
        for done, number in enumerate(incomplete, start=1):
            view, lifted = views[number], _lifted(self._depth[views[number]])
            for other in places[missing[number]].tolist():
                # The smaller share of two is 0 where the first one was.
                nothing = one_way.get((other, view)) == 0
                one_way[view, other] = 0.0 if nothing else _share(self._cameras, other, view, lifted)
            if progress is not None:
                progress(done, len(incomplete))
        for (view, other), share in one_way.items():
            self._shares[view, other] = min(share, one_way[other, view])
        return self._shares[places[:, None], places]


def depth_overlap(cameras: Cameras, depth: torch.Tensor, view: int, other: int) -> float:
    """The share of a view's pixels that land in the other view's picture, in the direction in which it is smaller.

    Pixels without depth land nowhere. Raises InputError for depth of another shape than the cameras'.
    """
    _check(cameras, depth)
    return min(_share(cameras, b, a, _lifted(depth[a])) for a, b in ((view, other), (other, view)))


def depth_projection(cameras: Cameras, key_view: int, query_view: int) -> torch.Tensor:
    """(3, 4) key_from_query: of pixels (x, y) of the query view (x z, y z, z, 1) to the key view's (x z, y z, z)."""
    key_from_query = torch.linalg.inv(cameras.cam_to_world[key_view]) @ cameras.cam_to_world[query_view]
    query_from_pixels = torch.block_diag(torch.linalg.inv(cameras.intrinsics[query_view]), torch.ones(1, 1))
    return cameras.intrinsics[key_view] @ key_from_query[:3] @ query_from_pixels


def lift(pixels: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """(3, ...) float64 lifted pixels (x z, y z, z), of (..., 2) pixels with (...) depth."""
    z = depth.double()
    return torch.stack((pixels[..., 0] * z, pixels[..., 1] * z, z))


def carried(matrix: torch.Tensor, lifted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The key view's x z, y z and z in metres, (...) each, of (3, ...) lifted pixels, by a (3, 4) `depth_projection`.

    Written out by element, so that the result does not depend on the machine's matrix library.
    """
    x, y, depth = lifted
    u, v, z = (a * x + b * y + c * depth + d for a, b, c, d in matrix.tolist())
    return u, v, z


def carry(matrix: torch.Tensor, lifted: torch.Tensor) -> torch.Tensor:
    """(2, ...) image points in the key view of (3, ...) lifted pixels, by a (3, 4) `depth_projection`.

    NO_POINT where there is no depth, and (ours) behind the key view, where the published model sees mirrored points.
    """
    u, v, z = carried(matrix, lifted)
    missing = (lifted[2] <= 0) | (z <= 0)
    return torch.stack((u, v)).div_(z + EPSILON).masked_fill_(missing, NO_POINT)


def inverse_depth(depth: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(V, height, width) float32 what the UNet is fed of (V, H, W) depth: the top-left pixel of each block of pixels.

    1 / depth, scaled for each view so that its valid pixels span -1 (far) to 1 (near); -2 where there is no reading.
    """
    valid = depth > 0
    inverse = 1 / (depth + EPSILON)
    least = inverse.where(valid, torch.inf).amin((1, 2), keepdim=True)
    greatest = inverse.where(valid, -torch.inf).amax((1, 2), keepdim=True)
    scaled = (inverse - least) / (greatest - least + EPSILON) * 2 - 1
    return F.interpolate(scaled.where(valid, -2.0)[:, None], size=(height, width), mode="nearest")[:, 0]


def depth_hints(depth: torch.Tensor) -> torch.Tensor:
    """(V, H, W, 3) float32 grey pictures of (V, H, W) depth as depth ControlNets take it: near is white.

    Each view spans black to white. Black where there is no reading, which ControlNets take for far away.
    """
    inverse = inverse_depth(depth, *depth.shape[1:])
    return ((inverse + 1) / 2).clamp_min(0)[..., None].expand(-1, -1, -1, 3)


def depth_at(points: torch.Tensor, depth: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    """(...) float64 of an (H, W) depth map at the pixels nearest to (2, ...) points; 0 outside of the picture."""
    nearest = points.round()
    inside = _inside(nearest, cameras)
    column, row = nearest.where(inside, 0).long()
    return depth[row, column].double().where(inside, 0)


def paired(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How a code made for two numbers codes one: (n, k) numbers to (n, k, 2) pairs, and (n, k) which have the cosines.

    The published model takes the list of all numbers, those of the first query's k neighbours and then of the next
    query's, in twos, also across queries: of two samples the first has the sines of both numbers, the second their
    cosines. The weights were trained with that. A 0 (ours) fills up an odd list.
    """
    count = numbers.numel()
    twos = F.pad(numbers.flatten(), (0, count % 2)).view(-1, 2)
    place = torch.arange(count).view(numbers.shape)
    return twos[place // 2], place % 2 == 1


def _view_tables(
    cameras: Cameras, depth: torch.Tensor, view: int, key_views: list[int], features: Features
) -> list[SampleTable]:
    """The tables of one view's queries: one per key view, in their order."""
    if not key_views:
        return []
    column, row = features.pixels.long().unbind(-1)
    own = depth[view, row, column].double()
    lifted = lift(features.pixels, own)
    points = [carry(depth_projection(cameras, key_view, view), lifted) for key_view in key_views]
    theirs = torch.stack([depth_at(at, depth[key], cameras) for at, key in zip(points, key_views, strict=True)], dim=1)
    valid = theirs > 0
    # Invalid samples have a number, too, and it counts: it is half of their partner's code.
    numbers, cosines = paired((own[:, None] - theirs.where(valid, NO_DEPTH)).abs())
    query = torch.arange(len(own))
    return [
        SampleTable(query, features.coordinates(at.mT[:, None]), valid[:, [i]], numbers[:, [i]], cosines[:, [i]])
        for i, at in enumerate(points)
    ]


def _lifted(depth: torch.Tensor) -> list[torch.Tensor]:
    """The lifted pixels of a view's (H, W) depth, row by row, in blocks of (3, n)."""
    blocks = []
    for number, z in enumerate(depth.flatten().split(BLOCK)):
        place = torch.arange(number * BLOCK, number * BLOCK + len(z))
        blocks.append(lift(torch.stack((place % depth.shape[1], place // depth.shape[1]), dim=-1), z))
    return blocks


def _share(cameras: Cameras, key_view: int, query_view: int, lifted: list[torch.Tensor]) -> float:
    """The share of the query view's lifted pixels, (3, n) each block, that land in the key view's picture."""
    matrix = depth_projection(cameras, key_view, query_view)
    landed = sum(_inside(carry(matrix, block), cameras).sum().item() for block in lifted)
    return landed / (cameras.width * cameras.height)


def _inside(points: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    """(...) bool: which (2, ...) points lie in [0, W) x [0, H)."""
    x, y = points
    return (x >= 0) & (x < cameras.width) & (y >= 0) & (y < cameras.height)


def _check(cameras: Cameras, depth: torch.Tensor) -> None:
    shape = (cameras.views, cameras.height, cameras.width)
    if depth.shape != shape:
        raise InputError(f"the depth of these cameras is {shape} (views, height, width), not {tuple(depth.shape)}")
