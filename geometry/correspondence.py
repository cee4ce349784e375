"""Which points of the other views a feature pixel corresponds to: all that attention needs to know about the scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .cameras import Cameras, pixel_grid
from .grid import middle

if TYPE_CHECKING:
    from .panorama_views import PanoramaViews

# The 3 x 3 neighbourhood in which the published model looks around a corresponding point (section 4.1 of the paper).
NEIGHBOURHOOD = torch.tensor([[x, y] for y in (-1, 0, 1) for x in (-1, 0, 1)], dtype=torch.float64)
KEY_VIEWS = 2  # how many other views a query reads: what the weights were trained with
UNSEEN = 1e9  # added to the distance of a point outside of a picture: farther than any that is inside
SAME_GEOMETRY = 1e-10  # relative difference under which two homographies are one
# In place of a homography where there is no view to be read: all points lie behind it, so all keys are invalid.
NOWHERE = torch.diag(torch.tensor([1, 1, -1], dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class SampleTable:
    """Where n queries of one view read another view; shared by all pairs of views with the same relative geometry.

    query: (n,) int64, flat indices r * width + c of the query pixels, ascending.
    coords: (n, S, 2) float64, (x, y) in feature pixels of the key view; read bilinearly, zero outside.
    valid: (n, S) bool, the key view sees the point; other samples still take part in the attention, as zero vectors.
    code: (n, S, 2) float64, the two numbers that the position code is made of: a panorama's displacement in feature
        pixels; with depth, two samples' differences of depth in metres (see depth.py).
    cosines: (n, S) bool, the code is the cosines of the numbers alone; elsewhere the sines alone. None: all have both.
    """

    query: torch.Tensor
    coords: torch.Tensor
    valid: torch.Tensor
    code: torch.Tensor
    cosines: torch.Tensor | None = None

    def part(self, rows: torch.Tensor) -> SampleTable:
        """Some of its rows, by number or by mask."""
        cosines = None if self.cosines is None else self.cosines[rows]
        return SampleTable(self.query[rows], self.coords[rows], self.valid[rows], self.code[rows], cosines)


@dataclass(frozen=True, eq=False)
class Pair:
    """Queries of `query_view` read `key_view` by `tables[table]`, or by these rows (m,) of it, int64, ascending."""

    query_view: int
    key_view: int
    table: int
    rows: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Correspondences:
    """The directed pairs of views at one feature size: a ragged list that says all about the scene.

    views: V. height, width: the feature size. There are no pairs where there is one view: it is left as it is.
    """

    views: int
    height: int
    width: int
    pairs: tuple[Pair, ...]
    tables: tuple[SampleTable, ...]

    def table_of(self, pair: Pair) -> SampleTable:
        """What the queries of a pair read: its table, or the rows of it that are its own."""
        table = self.tables[pair.table]
        return table if pair.rows is None else table.part(pair.rows)


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


def panorama_correspondences(cameras: PanoramaViews, height: int, width: int) -> Correspondences:
    """Correspondences of views in one point, at features `height` x `width` under the cameras' images.

    Every query reads a 3 x 3 neighbourhood in two other views (section 4.1 of the paper). In a ring those are the views
    beside it; of more neighbours it reads the two in which its image point lies nearest the middle, and those that see
    the point before those that do not. Pairs of one homography share one table.
    """
    features, reads, known, number = Features.of(cameras, height, width), [], [], []
    for query_view, key_views in enumerate(cameras.neighbours()):
        matrices = [homography(cameras, key_view, query_view) for key_view in key_views]
        if cameras.views > 1:
            missing = KEY_VIEWS - len(key_views)
            key_views, matrices = key_views + [query_view] * missing, matrices + [NOWHERE] * missing
        for key_view, matrix, query in zip(key_views, matrices, _queries(matrices, features), strict=True):
            if len(query):
                reads.append((query_view, key_view, query))
                number.append(_index_of(matrix, known))
    queries = [_union([read[-1] for read, of in zip(reads, number, strict=True) if of == i]) for i in range(len(known))]
    tables = [_homography_table(matrix, query, features) for matrix, query in zip(known, queries, strict=True)]
    pairs = [
        Pair(
            query_view, key_view, of, None if len(query) == len(queries[of]) else torch.searchsorted(queries[of], query)
        )
        for (query_view, key_view, query), of in zip(reads, number, strict=True)
    ]
    return Correspondences(cameras.views, height, width, tuple(pairs), tuple(tables))


@dataclass(frozen=True, eq=False)
class Features:
    """Feature pixels under images, with the published model's two conventions, half a feature apart: feature pixel k
    stands at image pixel scale * k + floor(scale / 2), and image pixel p lies at feature coordinate p / scale - 0.5.

    size: (2,) width and height of the images. scale: (2,) image pixels per feature.
    pixels: (n, 2) where in the image features stand, row by row.
    """

    size: torch.Tensor
    scale: torch.Tensor
    pixels: torch.Tensor

    def coordinates(self, points: torch.Tensor) -> torch.Tensor:
        """(..., 2) feature coordinates of (..., 2) image points."""
        return points / self.scale - 0.5

    @staticmethod
    def of(cameras: Cameras, height: int, width: int) -> Features:
        size = torch.tensor([cameras.width, cameras.height], dtype=torch.float64)
        scale = size / torch.tensor([width, height], dtype=torch.float64)
        return Features(size, scale, pixel_grid(width, height).reshape(-1, 2) * scale + (scale / 2).floor())


def _queries(matrices: list[torch.Tensor], features: Features) -> list[torch.Tensor]:
    """For the homography to each key view the (n,) queries that read it, ascending."""
    if len(matrices) <= KEY_VIEWS:
        return [torch.arange(len(features.pixels))] * len(matrices)
    distances = []
    for matrix in matrices:
        image, depth = apply_homography(matrix, features.pixels)
        distance = (image - middle(features.size)).square().sum(-1).sqrt()
        seen = ((image > 0) & (image < features.size)).all(-1)
        distances.append((distance + UNSEEN * ~seen).where(depth > 0, torch.inf))
    # Rounded, so that equal distances are equal on every machine; the earlier view then comes first.
    nearest = torch.stack(distances).round(decimals=6).argsort(dim=0, stable=True)[:KEY_VIEWS]
    return [(nearest == number).any(0).nonzero().flatten() for number in range(len(matrices))]


def _index_of(matrix: torch.Tensor, known: list[torch.Tensor]) -> int:
    """The place of a homography among the known ones, to which it is added where it is new."""
    if known:
        others = torch.stack(known)
        same = (matrix - others).abs().amax((1, 2)) <= SAME_GEOMETRY * others.abs().amax((1, 2))
        if same.any():
            return int(same.int().argmax())
    known.append(matrix)
    return len(known) - 1


def _union(queries: list[torch.Tensor]) -> torch.Tensor:
    """All queries of several ascending lists, ascending."""
    return queries[0] if len(queries) == 1 else torch.cat(queries).unique()


def _homography_table(matrix: torch.Tensor, query: torch.Tensor, features: Features) -> SampleTable:
    """The table of one homography: sample positions, validity and displacement of each query's neighbourhood."""
    pixels, scale = features.pixels[query], features.scale
    image, depth = apply_homography(matrix, pixels)
    samples = image[:, None] + NEIGHBOURHOOD * scale
    in_front = (depth > 0)[:, None]
    valid = ((samples > 0) & (samples < features.size)).all(-1) & in_front
    carried_back, _ = apply_homography(torch.linalg.inv(matrix), samples)
    displacement = (carried_back - pixels[:, None]) / scale
    return SampleTable(
        query=query,
        coords=features.coordinates(samples),
        valid=valid,
        code=torch.where(valid[..., None], displacement, 0.0),
    )
