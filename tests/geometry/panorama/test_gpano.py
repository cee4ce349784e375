"""The metadata of panoramas, and the box that a partial one is cropped to."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
import torch

from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.geometry.panorama.gpano import covered_box, gpano_xmp
from mvdiffusion_pack.geometry.panorama.stitch import stitch

GPANO = "{http://ns.google.com/photos/1.0/panorama/}"
WHOLE = slice(0, 50), slice(0, 100)


def coverage_of(*boxes: tuple[slice, slice], value: float = 1.0) -> torch.Tensor:
    """A coverage (50, 100) of these rows and columns."""
    coverage = torch.zeros(50, 100)
    for box in boxes:
        coverage[box] = value
    return coverage


def properties(xmp: str) -> dict[str, str]:
    (description,) = ET.fromstring(xmp.strip("\ufeff")).iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    return {name.removeprefix(GPANO): value for name, value in description.attrib.items() if name.startswith(GPANO)}


def test_box_holds_the_coverage_and_no_more():
    box = slice(7, 31), slice(12, 90)
    assert covered_box(coverage_of(box)) == box


def test_box_holds_separate_parts():
    parts = (slice(7, 8), slice(12, 20)), (slice(30, 31), slice(60, 90))
    assert covered_box(coverage_of(*parts)) == (slice(7, 31), slice(12, 90))


def test_one_pixel_is_a_box():
    assert covered_box(coverage_of((slice(49, 50), slice(0, 1)))) == (slice(49, 50), slice(0, 1))


def test_soft_edges_count_from_their_middle_on():
    coverage = coverage_of((slice(9, 33), slice(10, 92)), value=0.4)
    coverage[10:32, 12:90] = 0.6
    assert covered_box(coverage) == (slice(10, 32), slice(12, 90))


def test_part_across_the_wrap_takes_the_full_width():
    _, coverage = stitch(torch.ones(1, 64, 64, 3), ring(1, 60.0, 64, 64, start_yaw_deg=180.0), width=100)
    rows, columns = covered_box(coverage[0])
    assert columns == slice(0, 100)
    assert 0 < rows.start == 50 - rows.stop


def test_box_of_a_ring_is_the_latitudes_of_its_corners():
    """atan of the corner's height over its distance: a view 90 degrees wide and high reaches 35.3 at its sides and 45
    in its middle, that is to row (90 - 45) / 180 * 1000."""
    _, coverage = stitch(torch.ones(8, 64, 64, 3), ring(8, 90.0, 64, 64), width=2000)
    assert covered_box(coverage[0]) == (slice(250, 750), slice(0, 2000))


def test_coverage_that_is_nowhere_certain_is_refused():
    with pytest.raises(InputError, match=r"nowhere above 0\.5, only 0\.3 at most"):
        covered_box(coverage_of(WHOLE, value=0.3))


def test_whole_panorama_is_its_own_crop():
    assert properties(gpano_xmp(50, WHOLE, 0.0)) == {
        "UsePanoramaViewer": "True",
        "ProjectionType": "equirectangular",
        "FullPanoWidthPixels": "100",
        "FullPanoHeightPixels": "50",
        "CroppedAreaImageWidthPixels": "100",
        "CroppedAreaImageHeightPixels": "50",
        "CroppedAreaLeftPixels": "0",
        "CroppedAreaTopPixels": "0",
        "PoseHeadingDegrees": "0",
        "PosePitchDegrees": "0",
        "PoseRollDegrees": "0",
        "InitialViewHeadingDegrees": "0",
        "InitialViewPitchDegrees": "0",
        "InitialViewRollDegrees": "0",
    }


def test_cropped_panorama_says_where_it_lies():
    said = properties(gpano_xmp(50, (slice(7, 31), slice(12, 90)), 0.0))
    assert {name: said[name] for name in said if name.startswith(("Full", "Cropped"))} == {
        "FullPanoWidthPixels": "100",
        "FullPanoHeightPixels": "50",
        "CroppedAreaImageWidthPixels": "78",
        "CroppedAreaImageHeightPixels": "24",
        "CroppedAreaLeftPixels": "12",
        "CroppedAreaTopPixels": "7",
    }


@pytest.mark.parametrize(
    ("start_yaw", "heading"),
    [(90.0, "90"), (-30.0, "330"), (360.0, "0"), (-360.0, "0"), (359.7, "0"), (-0.2, "0"), (-1e-20, "0"), (12.4, "12")],
)
def test_heading_is_a_compass_bearing_in_whole_degrees(start_yaw, heading):
    assert properties(gpano_xmp(50, WHOLE, start_yaw))["InitialViewHeadingDegrees"] == heading
