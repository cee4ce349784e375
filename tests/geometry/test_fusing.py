"""What views share: who reads whom, by how much, and that it is the same point of the scene."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from sphere import smooth, view_directions
from wall import AWAY, along_a_wall

from mvdiffusion_pack.geometry import seen
from mvdiffusion_pack.geometry.fusing import SharedReads, picture_reads, shared_pictures, shared_reads
from mvdiffusion_pack.geometry.layouts import ring, sphere

RING = ring(8, 90, 64, 64)
SIZE = 16


def fused(pixels: torch.Tensor, reads: SharedReads) -> torch.Tensor:
    """(V, h, w, C) sums of (V, h, w, C) pixels, one by one."""
    flat, ends = pixels.reshape(-1, pixels.shape[-1]), reads.ends.tolist()
    terms = flat[reads.pixel.long()] * reads.weight[:, None]
    sums = torch.stack([terms[first:last].sum(0) for first, last in pairwise(ends)])
    return sums.reshape(pixels.shape)


def shared(pictures: torch.Tensor, cameras) -> torch.Tensor:
    """(V, C, h, w) pictures as their views share them."""
    return shared_pictures(pictures, picture_reads(cameras, *pictures.shape[-2:]))


def numbered(views: int, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    """(V, h, w, V) views that say which of them they are."""
    return torch.eye(views)[:, None, None].expand(views, height, width, views)


@pytest.mark.parametrize("cameras", [RING, sphere(8, 90, 128, 64), along_a_wall(4)], ids=["ring", "sphere", "depth"])
def test_weights_of_a_pixel_make_one(cameras):
    shares = fused(numbered(cameras.views), shared_reads(cameras, SIZE, SIZE))
    assert torch.allclose(shares.sum(-1), torch.ones(()), atol=1e-5)


def test_views_that_agree_stay_as_they_are():
    directions = view_directions(ring(8, 90, SIZE, SIZE))
    views = smooth(directions).float()
    assert (fused(views, shared_reads(RING, SIZE, SIZE)) - views).abs().max() < 5e-3


def test_the_view_that_sees_a_point_best_counts_most():
    shares = fused(numbered(8), shared_reads(RING, SIZE, SIZE))
    middle, right = shares[0, SIZE // 2, SIZE // 2], shares[0, SIZE // 2, -1]
    assert middle[0] > 0.99 and right[1] > 0.99
    assert shares[0, SIZE // 2, 0, 7] > 0.99  # the circle closes


def test_half_way_between_two_views_each_counts_half():
    cameras = ring(4, 120, 192, 192)
    shares = fused(numbered(4, 12, 192), shared_reads(cameras, 12, 192))[0, 6]
    nearest = view_directions(ring(4, 120, 192, 12))[0, 6, :, 0] - 0.5**0.5  # 45 degrees to the right
    column = int(nearest.abs().argmin())
    assert shares[column, 0].item() == pytest.approx(0.5, abs=0.1)
    assert shares[column, 1].item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("cameras", [ring(1, 90, 64, 64), ring(3, 90, 64, 64)], ids=["one view", "apart"])
def test_nothing_is_read_where_nothing_overlaps(cameras):
    assert shared_reads(cameras, SIZE, SIZE) is None


def test_pixels_that_no_other_view_shows_are_their_own():
    cameras = ring(4, 100, 64, 64)  # neighbours share 10 degrees
    reads = shared_reads(cameras, SIZE, SIZE)
    pixels = torch.rand(4, SIZE, SIZE, 2)
    inner = slice(4, -4)
    assert torch.equal(fused(pixels, reads)[:, :, inner], pixels[:, :, inner])


def test_a_shift_by_whole_pixels_reads_pixels_as_they_are():
    cameras = along_a_wall(2, step=2 * AWAY * 3**-0.5 * 4 / SIZE)  # 4 pixels of a view that is 2 AWAY tan(30) wide
    pixels = torch.rand(2, SIZE, SIZE, 1)
    shares = fused(numbered(2), shared_reads(cameras, SIZE, SIZE))[0, SIZE // 2]
    result = fused(pixels, shared_reads(cameras, SIZE, SIZE))[0]
    expected = shares[:, 0] * pixels[0, SIZE // 2, :, 0]
    expected[4:] += shares[4:, 1] * pixels[1, SIZE // 2, :-4, 0]
    assert torch.allclose(result[SIZE // 2, :, 0], expected, atol=1e-5)


def test_what_stands_before_a_point_is_not_taken_for_it():
    cameras = along_a_wall(2)
    depth = cameras.depth.clone()
    depth[1, :, :40] = 0.5 * AWAY
    hidden = replace(cameras, depth=depth)
    seen, shares = (fused(numbered(2), shared_reads(it, SIZE, SIZE))[0, SIZE // 2, :, 1] for it in (cameras, hidden))
    assert (seen[6:] > 0).all() and (shares[6:11] == 0).all() and (shares[-3:] > 0.5).all()


@pytest.mark.parametrize("cameras", [RING, along_a_wall(3)], ids=["ring", "depth"])
def test_pictures_are_shared_as_latents_are(cameras):
    shares = fused(numbered(cameras.views), shared_reads(cameras, SIZE, SIZE))
    pictures = numbered(cameras.views).movedim(-1, 1).contiguous()
    assert torch.allclose(shared(pictures, cameras).movedim(1, -1), shares, atol=1e-4)


def test_pixels_without_depth_keep_their_colours():
    cameras = along_a_wall(2)
    holes = replace(cameras, depth=cameras.depth.clone().index_fill_(2, torch.arange(20, 40), 0))
    pictures = torch.rand(2, 3, 64, 64)
    assert torch.allclose(shared(pictures, holes)[..., 20:40], pictures[..., 20:40], atol=1e-5)


def test_pictures_come_in_bands_of_rows(monkeypatch):
    pictures = torch.rand(8, 3, 32, 32)
    whole = shared(pictures, RING)
    monkeypatch.setattr(seen, "BLOCK", 5 * 32)
    assert torch.allclose(shared(pictures, RING), whole, atol=1e-6)
