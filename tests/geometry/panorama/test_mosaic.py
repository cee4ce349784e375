"""The small panorama of live previews, against the exact one."""

from __future__ import annotations

import pytest
import torch
from sphere import detailed, psnr, smooth, view_directions

from mvdiffusion_pack.geometry.layouts import ring, sphere
from mvdiffusion_pack.geometry.panorama.equirect import equirect_directions
from mvdiffusion_pack.geometry.panorama.mosaic import Mosaic
from mvdiffusion_pack.geometry.panorama.stitch import stitch

RIGS = {"ring": ring(8, 90.0, 96, 64, 20.0), "pitched": ring(6, 100.0, 64, 96, 0.0, 30.0), "one": ring(1, 90, 80, 80)}


@pytest.mark.parametrize("rig", RIGS.values(), ids=RIGS)
def test_mosaic_covers_what_stitching_covers(rig):
    views = torch.ones(rig.views, rig.height, rig.width, 3)
    drawn = Mosaic.of(rig, (rig.width, rig.height), 128).draw(views)
    _, (coverage,) = stitch(views, rig, 128)
    torch.testing.assert_close(drawn, coverage[..., None].expand(-1, -1, 3))


def test_mosaic_of_a_known_sphere_shows_it():
    rig = sphere(8, 90, 256, 256)
    drawn = Mosaic.of(rig, (256, 256), 256).draw(smooth(view_directions(rig)))
    assert psnr(drawn, smooth(equirect_directions(256, 128))) > 45


def test_views_of_any_resolution_give_the_same_panorama():
    rig = ring(8, 90.0, 512, 512)
    small = ring(8, 90.0, 128, 128)
    drawn = Mosaic.of(rig, (128, 128), 128).draw(detailed(view_directions(small)))
    expected = Mosaic.of(small, (128, 128), 128).draw(detailed(view_directions(small)))
    torch.testing.assert_close(drawn, expected)


def test_where_two_views_are_seen_equally_well_both_count_half():
    rig = ring(4, 100.0, 64, 64, 45.0)  # directions at yaw 0 lie on the border between views 3 and 0
    mosaic = Mosaic.of(rig, (64, 64), 2048)
    drawn = mosaic.draw(torch.arange(4.0)[:, None, None, None].expand(4, 64, 64, 1))
    assert drawn[512, [1023, 1024], 0].tolist() == pytest.approx([1.5, 1.5], abs=0.05)
