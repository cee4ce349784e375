"""What the shape of a picture says of the part of the sphere that it shows."""

from __future__ import annotations

from ..input_error import InputError

NEARLY = 0.1  # by which pictures of generators and cameras miss 2:1 that are meant to be whole panoramas


def nearly_whole(width: int, height: int) -> bool:
    """Whether a picture is a whole panorama, stretched a little at most."""
    return abs(width / (2 * height) - 1) <= NEARLY


def not_two_to_one(width: int, height: int, what: str) -> InputError:
    """Of a picture, which people know as `what`, that is not exactly twice as wide as high.

    What would be right depends on the shape. Padding a whole panorama that was stretched would bend all its lines;
    scaling a part would stretch it over the sphere.
    """
    fact = f"{what} is twice as wide as high, not {width} x {height} pixels"
    if nearly_whole(width, height):
        even = max(2, 2 * round(width / 2))
        return InputError(f"{fact}, though nearly so. {even} x {even // 2} would be right", "scale_to_two_to_one")
    return InputError(fact, "pad_to_two_to_one" if width > 2 * height else "two_to_one")
