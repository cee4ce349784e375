"""Panoramas and their coverage as they come from other nodes."""

from __future__ import annotations

import pytest
import torch

from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.panorama.coverage import panoramas_and_coverage


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape)


def test_without_coverage_there_is_none():
    pictures, coverage = panoramas_and_coverage(ones(2, 8, 16, 3), None)
    assert pictures.shape == (2, 8, 16, 3)
    assert coverage is None


def test_half_precision_and_alpha_become_plain_colours():
    equirect = torch.rand(1, 8, 16, 4).half()
    pictures, _ = panoramas_and_coverage(equirect, None)
    assert pictures.dtype == torch.float32
    assert torch.equal(pictures, equirect[..., :3].float())


def test_colours_outside_the_range_are_clamped():
    pictures, _ = panoramas_and_coverage(torch.tensor([-0.5, 0.25, 1.5]).expand(1, 8, 16, 3), None)
    assert pictures[0, 0, 0].tolist() == [0, 0.25, 1]


def test_coverage_outside_the_range_is_clamped():
    _, coverage = panoramas_and_coverage(ones(1, 1, 2, 3), torch.tensor([[[-3.0, 7.0]]]))
    assert coverage.tolist() == [[[0, 1]]]


def test_one_coverage_serves_all_panoramas():
    given = torch.rand(1, 8, 16)
    _, coverage = panoramas_and_coverage(ones(3, 8, 16, 3), given)
    assert torch.equal(coverage, given.repeat(3, 1, 1))


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 16), (8, 16), (1, 4, 8)])
def test_coverage_of_another_size_names_both_sizes(shape):
    with pytest.raises(InputError, match=r"^the coverage must be \(3, 8, 16\) like the panorama, not \("):
        panoramas_and_coverage(ones(3, 8, 16, 3), ones(*shape))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_coverage_that_is_no_number(number):
    coverage = ones(1, 8, 16)
    coverage[0, 3, 3] = number
    with pytest.raises(InputError, match="NaN or infinite numbers in the coverage"):
        panoramas_and_coverage(ones(1, 8, 16, 3), coverage)


def test_coverage_of_nothing_names_the_panorama():
    coverage = torch.stack((torch.ones(8, 16), torch.zeros(8, 16)))
    with pytest.raises(InputError, match=r"^the coverage of panorama 1 is 0 everywhere$"):
        panoramas_and_coverage(ones(2, 8, 16, 3), coverage)


def test_negative_coverage_covers_nothing():
    with pytest.raises(InputError, match="is 0 everywhere"):
        panoramas_and_coverage(ones(1, 8, 16, 3), -ones(1, 8, 16))


def test_picture_that_is_not_two_to_one():
    with pytest.raises(InputError, match="not 16 x 9 pixels"):
        panoramas_and_coverage(ones(1, 9, 16, 3), None)
