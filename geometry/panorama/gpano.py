"""GPano: the metadata by which viewers know a picture as a panorama, whole or cropped to the part that is known.

Properties and units are those of https://developers.google.com/streetview/spherical-metadata.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch

from ..input_error import InputError

PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {properties}/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
# A property as XMP has it, as an attribute or as an element. No XML is parsed: nothing in it could be expanded.
PROPERTY = re.compile(r"""(?<!/)GPano:(\w+)(?:\s*=\s*["']([^"']*)["']|\s*>([^<]*)<)""")
ANGLES = "Heading", "Pitch", "Roll"


def covered_box(coverage: torch.Tensor) -> tuple[slice, slice]:
    """The rows and columns of the smallest box that holds all of a panorama's coverage (H, 2 H) above 0.5.

    A part that lies across the panorama's wrap takes the full width: a crop cannot continue over the edge.
    Raises InputError where the coverage is nowhere above 0.5.
    """
    covered = coverage > 0.5
    if not covered.any():
        raise InputError(
            f"the coverage is nowhere above 0.5, only {coverage.max():.2g} at most, so nothing would be saved",
            "no_coverage",
        )
    return _extent(covered.any(1)), _extent(covered.any(0))


def _extent(marks: torch.Tensor) -> slice:
    """From the first to the last true of a row of marks."""
    marked = marks.nonzero()
    return slice(int(marked[0]), int(marked[-1]) + 1)


def gpano_xmp(height: int, box: tuple[slice, slice], start_yaw_deg: float) -> str:
    """The XMP packet of a picture that shows the rows and columns `box` of a panorama `height` pixels high.

    The panorama's middle is said to lie north, so that viewers which take the first heading from the middle and those
    which take it from north look the same way. That heading is a whole number of degrees in 0..359, as GPano has it.
    """
    rows, columns = box
    properties = {
        "UsePanoramaViewer": True,
        "ProjectionType": "equirectangular",
        "FullPanoWidthPixels": 2 * height,
        "FullPanoHeightPixels": height,
        "CroppedAreaImageWidthPixels": columns.stop - columns.start,
        "CroppedAreaImageHeightPixels": rows.stop - rows.start,
        "CroppedAreaLeftPixels": columns.start,
        "CroppedAreaTopPixels": rows.start,
        "PoseHeadingDegrees": 0,
        "PosePitchDegrees": 0,
        "PoseRollDegrees": 0,
        "InitialViewHeadingDegrees": round(start_yaw_deg) % 360,
        "InitialViewPitchDegrees": 0,
        "InitialViewRollDegrees": 0,
    }
    return PACKET.format(properties=" ".join(f'GPano:{name}="{value}"' for name, value in properties.items()))


@dataclass(frozen=True)
class Place:
    """Where a picture lies on the sphere, as its GPano metadata say.

    full: (width, height) of the whole panorama, in pixels of the picture as it was written; box: (left, top, width,
    height) of the part that it shows. heading_deg, pitch_deg, roll_deg: where the panorama's middle looked.
    """

    full: tuple[float, float]
    box: tuple[float, float, float, float]
    heading_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0


def read_gpano(xmp: str) -> Place | None:
    """The place that an XMP packet tells; None for a packet that tells none.

    Raises InputError for another projection, and for numbers that are none.
    """
    values = {name: (quoted or plain).strip() for name, quoted, plain in PROPERTY.findall(xmp)}
    projection = values.get("ProjectionType", "equirectangular")
    if projection.lower() != "equirectangular":
        raise InputError(f"its metadata call the picture's projection {projection}", "equirectangular_only")
    if not {"FullPanoWidthPixels", "FullPanoHeightPixels"} <= values.keys():
        return None
    full = _number(values, "FullPanoWidthPixels"), _number(values, "FullPanoHeightPixels")
    size = (
        _number(values, "CroppedAreaImageWidthPixels", full[0]),
        _number(values, "CroppedAreaImageHeightPixels", full[1]),
    )
    corner = _number(values, "CroppedAreaLeftPixels", 0), _number(values, "CroppedAreaTopPixels", 0)
    if min(*full, *size) < 1 or min(corner) < 0:
        raise InputError(f"its metadata speak of a part of {size} pixels at {corner} of {full}", "write_gpano_again")
    return Place(full, corner + size, *(_number(values, f"Pose{angle}Degrees", 0) for angle in ANGLES))


def _number(values: dict[str, str], name: str, absent: float | None = None) -> float:
    if name not in values and absent is not None:
        return absent
    try:
        number = float(values[name])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name} in its metadata is {values[name]!r}, not a number", "write_gpano_again")
    return number
