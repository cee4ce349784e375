"""Which points of the other views a feature pixel corresponds to: all that attention needs to know about the scene."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .cameras import Cameras, pixel_grid

# The 3 x 3 neighbourhood in which the published model looks around a corresponding point (section 4.1 of the paper).
NEIGHBOURHOOD = torch.tensor([[x, y] for y in (-1, 0, 1) for x in (-1, 0, 1)], dtype=torch.float64)
SAME_GEOMETRY = 1e-10  # relative difference under which two homographies are one


@dataclass(frozen=True, eq=False)
class SampleTable:
    """Where n queries of one view read another view; shared by all pairs of views with the same relative geometry.

    query: (n,) int64, flat indices r * width + c of the query pixels, ascending.
    coords: (n, S, 2) float64, (x, y) in feature pixels of the key view; read bilinearly, zero outside.
    valid: (n, S) bool, the key view sees the point; other samples still take part in the attention, as zero vectors.
    code: (n, S, D) float64, the input of the position code (D = 2: displacement in feature pixels).
    """

    query: torch.Tensor
    coords: torch.Tensor
    valid: torch.Tensor
    code: torch.Tensor


@dataclass(frozen=True)
class Pair:
    """Queries of `query_view` read `key_view` by `tables[table]`."""

    query_view: int
    key_view: int
    table: int


@dataclass(frozen=True, eq=False)
class Correspondences:
    """The directed pairs of views at one feature size: a ragged list that says all about the scene.

    views: V. height, width: the feature size. A view without pairs is left as it is.
    """

    views: int
    height: int
    width: int
    pairs: tuple[Pair, ...]
    tables: tuple[SampleTable, ...]


def ring_neighbours(cameras: Cameras) -> list[list[int]]:
    """For each view the two beside it in its ring, cyclic. Of two views the other one counts twice, as published."""
    neighbours, first = [], 0
    for size in cameras.rings:
        for view in range(size):
            neighbours.append([first + (view - 1) % size, first + (view + 1) % size] if size > 1 else [])
        first += size
    return neighbours


def homography(cameras: Cameras, key_view: int, query_view: int) -> torch.Tensor:
    """(3, 3) key_from_query on pixel coordinates: K_j R_j^-1 R_i K_i^-1 (equation 2 of the paper)."""
    rotation, intrinsics = cameras.rotation, cameras.intrinsics
    key_from_query = rotation[key_view].mT @ rotation[query_view]
    return intrinsics[key_view] @ key_from_query @ torch.linalg.inv(intrinsics[query_view])


def apply_homography(matrix: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps (..., 2) pixels by a (3, 3) matrix; returns the (..., 2) image and its (...) depth, positive in front.

    Written out by element, so that the result does not depend on the machine's matrix library.
    """
    x, y = points.unbind(-1)
    u, v, depth = (row[0] * x + row[1] * y + row[2] for row in matrix)
    safe = torch.where(depth.abs() < 1e-12, torch.full_like(depth, 1e-12), depth)
    return torch.stack((u / safe, v / safe), dim=-1), depth


def panorama_correspondences(cameras: Cameras, height: int, width: int) -> Correspondences:
    """Correspondences of views in one point, at features `height` x `width` under the cameras' images.

    Every query reads a 3 x 3 neighbourhood in either view beside it (section 4.1 of the paper).
    """
    pairs, tables, known = [], [], []
    for query_view, key_views in enumerate(ring_neighbours(cameras)):
        for key_view in key_views:
            matrix = homography(cameras, key_view, query_view)
            table = _index_of(matrix, known)
            if table == len(known):
                known.append(matrix)
                tables.append(_homography_table(matrix, cameras, height, width))
            pairs.append(Pair(query_view, key_view, table))
    return Correspondences(cameras.views, height, width, tuple(pairs), tuple(tables))


def _index_of(matrix: torch.Tensor, known: list[torch.Tensor]) -> int:
    """The place of `matrix` among the known homographies; their number where it is new."""
    for index, other in enumerate(known):
        if (matrix - other).abs().max() <= SAME_GEOMETRY * other.abs().max():
            return index
    return len(known)


def _homography_table(matrix: torch.Tensor, cameras: Cameras, height: int, width: int) -> SampleTable:
    """The table of one homography: sample positions, validity and displacement of each query's neighbourhood.

    A feature pixel k stands at image pixel scale * k + floor(scale / 2), and an image pixel p lies at feature
    coordinate p / scale - 0.5: the published model's two conventions, half a feature apart.
    """
    size = torch.tensor([cameras.width, cameras.height], dtype=torch.float64)
    scale = size / torch.tensor([width, height], dtype=torch.float64)
    query = pixel_grid(width, height).reshape(-1, 2) * scale + (scale / 2).floor()
    image, depth = apply_homography(matrix, query)
    samples = image[:, None] + NEIGHBOURHOOD * scale
    in_front = (depth > 0)[:, None]
    valid = ((samples > 0) & (samples < size)).all(-1) & in_front
    carried_back, _ = apply_homography(torch.linalg.inv(matrix), samples)
    displacement = (carried_back - query[:, None]) / scale
    return SampleTable(
        query=torch.arange(height * width),
        coords=samples / scale - 0.5,
        valid=valid,
        code=torch.where(valid[..., None], displacement, 0.0),
    )
