"""A picture of cameras, for people: where they look as seen from above, and how often they see each direction."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageChops, ImageDraw

from ..cameras import Cameras
from ..overlap import area
from ..panorama.equirect import equirect_from_directions
from .drawing import (
    BRIGHT,
    DIM,
    FINE,
    GROUND,
    LARGE,
    LINE,
    MEDIUM,
    SHADE,
    SMALL,
    THICK,
    THIN,
    Colour,
    Labels,
    Point,
    font,
    hatched,
    points,
    view_colour,
)
from .survey import outlines, overlaps, plan_outlines, sphere_share, view_counts

WIDTH, MARGIN, HEADING = 1024 * FINE, 56 * FINE, 72 * FINE
PLAN, RADIUS = 576 * FINE, 232 * FINE  # height of the plan; length of a level frustum of views in one point
FRUSTUM = 70 * FINE  # length of a frustum of cameras in different places
STAGGER, INSET = 0.4, 22 * FINE  # how much shorter frusta become that lie over each other; number to frustum's end
SPHERE = WIDTH - 2 * MARGIN, WIDTH // 2 - MARGIN  # width and height of the map
AXIS, LEGEND, SWATCH = 34 * FINE, 64 * FINE, (34 * FINE, 18 * FINE)
COUNTS = (SHADE, (44, 62, 86), (76, 106, 138), (124, 158, 190))  # where 0, 1, 2, 3 and more views look

UP = torch.tensor([1.0, -1.0], dtype=torch.float64)  # takes right and forward to right and down
MOST_DRAWN = 24
STRIDES = [step * 10**power for power in range(8) for step in (1, 2, 4, 5)]
MAP_SAMPLES = 2**23  # directions times views that are looked at


def diagram(cameras: Cameras) -> torch.Tensor:
    """(1, h, 1024, 3) float32: a plan, and for views in one point a map of the sphere below it.

    The plan has yaw 0 above and yaw 90 on the right. Of many views every n-th is drawn; what is counted and measured is
    counted and measured over all.
    """
    stride = next(step for step in STRIDES if cameras.views <= step * MOST_DRAWN)
    drawn = range(0, cameras.views, stride)
    panels = [_heading(cameras), _plan(cameras, drawn)]
    if cameras.in_one_point:
        panels.append(_map(cameras, drawn))
    picture = Image.new("RGB", (WIDTH, sum(panel.height for panel in panels)))
    top = 0
    for panel in panels:
        picture.paste(panel, (0, top))
        top += panel.height
    return torch.from_numpy(np.array(picture.reduce(FINE))).div(255)[None]


def headline(cameras: Cameras) -> str:
    """Their number, size, field of view and share of the sphere: '8 views, 512 x 512, 90 x 90 degrees, 70 % of ...'."""
    fov = cameras.fov_deg
    parts = [
        f"{cameras.views} view{'s' * (cameras.views > 1)}",
        f"{cameras.width} x {cameras.height}",
        f"{_span(fov[:, 0].tolist())} x {_span(fov[:, 1].tolist())} degrees",
    ]
    if cameras.in_one_point:
        share = sphere_share(cameras)
        parts.append(f"{100 if share == 1 else min(99, round(100 * share))} % of the sphere")
    return ", ".join(parts)


def _heading(cameras: Cameras) -> Image.Image:
    panel = Image.new("RGB", (WIDTH, HEADING), GROUND)
    ImageDraw.Draw(panel).text((WIDTH / 2, HEADING / 2), headline(cameras), BRIGHT, font(LARGE), anchor="mm")
    return panel


def _span(values: list[float]) -> str:
    """Numbers in whole units: one where all are alike, else the smallest and the largest."""
    low, high = (f"{value:.0f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _some(cameras: Cameras, views: range) -> Cameras:
    chosen = list(views)
    return Cameras(cameras.intrinsics[chosen], cameras.cam_to_world[chosen], cameras.width, cameras.height)


def _plan(cameras: Cameras, drawn: range) -> Image.Image:
    """The cameras from above, yaw 0 up: frusta as light that adds up, their numbers, and what neighbours share."""
    panel = Image.new("RGB", (WIDTH, PLAN), GROUND)
    some, places = _some(cameras, drawn), _places(cameras)
    if cameras.in_one_point:
        _draw_compass(panel)
    else:
        _draw_path(panel, places)
    shapes, starts = plan_outlines(some), places[list(drawn)]
    lengths = (RADIUS if cameras.in_one_point else FRUSTUM) * (1 - STAGGER * _layers(cameras, drawn))
    scaled = zip(starts, lengths, shapes, strict=True)
    frusta = [points(start + length * UP * shape) for start, length, shape in scaled]
    depth = sum(area(shape.tolist()) for shape in shapes) / math.pi if cameras.in_one_point else 1
    colours = [view_colour(view, cameras.views, 0.6 / max(depth, 2)) for view in drawn]
    panel = ImageChops.add(panel, _light(frusta, colours))
    for view, frustum in zip(drawn, frusta, strict=True):
        ImageDraw.Draw(panel).line([*frustum, frustum[0]], view_colour(view, cameras.views), THICK, joint="curve")
    ends = starts + (lengths - INSET)[:, None] * UP * some.rotation[:, [0, 2], 2]
    labels = Labels(panel)
    labels.write(zip(points(ends), map(str, drawn), strict=True), MEDIUM, room=FINE)
    _write_facts(panel, labels, cameras, drawn)
    return panel


def _places(cameras: Cameras) -> torch.Tensor:
    """(V, 2) where the cameras stand on the plan, as far apart as their frusta find room."""
    places = UP * cameras.cam_to_world[:, [0, 2], 3]
    places = places - (places.amax(0) + places.amin(0)) / 2
    room = torch.tensor([WIDTH / 2 - MARGIN, PLAN / 2 - MARGIN / 2]) - FRUSTUM
    scale = 0.0 if cameras.in_one_point else (room / places.abs().amax(0).clamp(min=1e-9)).min()
    return torch.tensor([WIDTH / 2, PLAN / 2]) + scale * places


def _layers(cameras: Cameras, drawn: range) -> torch.Tensor:
    """(D,) in 0..1: by how much to shorten each frustum, so that those which lie over each other in a ring differ."""
    layers, first = torch.zeros(len(drawn), dtype=torch.float64), 0
    for size in cameras.rings:
        ring = [number for number, view in enumerate(drawn) if first <= view < first + size]
        turns = cameras.fov_deg[first, 0].item() * len(ring) / 360
        depth = max(1, math.ceil(turns - 0.01))
        layers[ring] = torch.arange(len(ring), dtype=torch.float64) % depth / depth
        first += size
    return layers


def _draw_compass(panel: Image.Image) -> None:
    """The circle that level frusta reach, with yaw in degrees."""
    draw, x, y, away = ImageDraw.Draw(panel), WIDTH / 2, PLAN / 2, RADIUS + 10 * FINE
    draw.ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), SHADE, LINE, THIN)
    _draw_north(panel, x, y - RADIUS - 18 * FINE)
    draw.text((x + away, y), "90", DIM, font(SMALL), anchor="lm")
    draw.text((x - away, y), "-90", DIM, font(SMALL), anchor="rm")
    draw.text((x, y + away), "180", DIM, font(SMALL), anchor="mt")


def _draw_path(panel: Image.Image, places: torch.Tensor) -> None:
    """A line from camera to camera, and where yaw 0 is."""
    ImageDraw.Draw(panel).line(points(places), LINE, THICK, joint="curve")
    _draw_north(panel, MARGIN + 24 * FINE, MARGIN)


def _draw_north(panel: Image.Image, x: float, tip: float) -> None:
    """An arrow up with its name over it."""
    draw, half = ImageDraw.Draw(panel), 8 * FINE
    draw.polygon([(x, tip), (x - half, tip + 14 * FINE), (x + half, tip + 14 * FINE)], DIM)
    draw.text((x, tip - 5 * FINE), "yaw 0", DIM, font(SMALL), anchor="ms")


def _light(frusta: list[list[Point]], colours: list[Colour]) -> Image.Image:
    """The sum of all frusta's colours, as large as the plan; drawn coarsely, since lines will hide its edges."""
    light = Image.new("RGB", (WIDTH // FINE, PLAN // FINE))
    for frustum, colour in zip(frusta, colours, strict=True):
        corners = [(x / FINE, y / FINE) for x, y in frustum]
        xs, ys = zip(*corners, strict=True)
        box = int(min(xs)), int(min(ys)), math.ceil(max(xs)) + 1, math.ceil(max(ys)) + 1
        one = Image.new("RGB", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(one).polygon([(x - box[0], y - box[1]) for x, y in corners], colour)
        light.paste(ImageChops.add(light.crop(box), one), box)
    return light.resize((WIDTH, PLAN), Image.Resampling.NEAREST)


def _write_facts(panel: Image.Image, labels: Labels, cameras: Cameras, drawn: range) -> None:
    """What neighbours share, between them where all of that finds room; more in the plan's lower corners."""
    left = right = ""
    if not cameras.in_one_point:
        places = cameras.cam_to_world[:, [0, 2], 3]
        left = "cameras within {:.1f} x {:.1f} m".format(*(places.amax(0) - places.amin(0)).tolist())
    elif shared := overlaps(cameras):
        percents = [100 * share for *_, share in shared]
        left = f"neighbours share {_span(percents)} %"
        forward = UP * cameras.rotation[:, [0, 2], 2]
        between = F.normalize(torch.stack([forward[view] + forward[other] for view, other, _ in shared]), dim=-1)
        middles = points(_places(cameras)[0] + 0.45 * RADIUS * between)
        labels.write_all(zip(middles, (f"{percent:.0f} %" for percent in percents), strict=True), SMALL, room=5 * FINE)
    if drawn.step > 1:
        right = f"1 of {drawn.step} views is drawn"
    draw, y = ImageDraw.Draw(panel), PLAN - MARGIN / 2
    draw.text((MARGIN, y), left, DIM, font(SMALL), anchor="ls")
    draw.text((WIDTH - MARGIN, y), right, DIM, font(SMALL), anchor="rs")


def _map(cameras: Cameras, drawn: range) -> Image.Image:
    """How many views hold each direction, over yaw and pitch, with the views' edges and numbers."""
    sphere, some = _counts(cameras), _some(cameras, drawn)
    for view, edges in zip(drawn, equirect_from_directions(outlines(some), SPHERE[0]), strict=True):
        for line in _unwrapped(edges):
            ImageDraw.Draw(sphere).line(line, view_colour(view, cameras.views), THICK, joint="curve")
    inside = torch.tensor(SPHERE) - MEDIUM
    centres = equirect_from_directions(some.rotation[:, :, 2], SPHERE[0]).clamp(min=MEDIUM).minimum(inside)
    Labels(sphere).write(zip(points(centres), map(str, drawn), strict=True), MEDIUM, room=6 * FINE)
    panel = Image.new("RGB", (WIDTH, SPHERE[1] + AXIS + LEGEND), GROUND)
    panel.paste(sphere, (MARGIN, 0))
    _draw_axes(panel)
    _draw_legend(panel)
    return panel


def _counts(cameras: Cameras) -> Image.Image:
    """The map's ground: lighter where more views look, hatched where none does."""
    width, height = (side // FINE for side in SPHERE)
    coarse = min(width, int(math.sqrt(2 * MAP_SAMPLES / cameras.views)) // 2 * 2)
    counts = view_counts(cameras, coarse)[None, None]
    counts = F.interpolate(counts, (height, width), mode="bilinear", align_corners=False)[0, 0].numpy()
    steps, most = np.linspace(0, 255, len(COUNTS)), len(COUNTS) - 1
    colours = np.stack([np.interp(range(256), steps, band) for band in zip(*COUNTS, strict=True)], -1)
    coloured = colours.astype(np.uint8)[(255 / most * counts.clip(0, most)).astype(np.uint8)]
    seen = (255 * counts.clip(0, 1)).astype(np.uint8)
    coloured, seen = (Image.fromarray(part).resize(SPHERE, Image.Resampling.NEAREST) for part in (coloured, seen))
    return Image.composite(coloured, hatched(SPHERE), seen)


def _unwrapped(edges: torch.Tensor) -> list[list[Point]]:
    """(n, 2) points that go round on the map as lines that leave it on one side and come back on the other."""
    x, y = torch.cat((edges, edges[:1])).unbind(-1)
    width = SPHERE[0]
    steps = (torch.diff(x) + width / 2) % width - width / 2
    x = torch.cat((x[:1], x[0] + steps.cumsum(0)))
    return [points(torch.stack((x + shift, y), dim=-1)) for shift in (-width, 0, width)]


def _draw_axes(panel: Image.Image) -> None:
    """The map's frame, with yaw below it and pitch on its left, in degrees."""
    draw, (width, height) = ImageDraw.Draw(panel), SPHERE
    draw.rectangle((MARGIN, 0, MARGIN + width, height), outline=LINE, width=THIN)
    for yaw in range(-180, 181, 90):
        x = MARGIN + (yaw + 180) / 360 * width
        draw.line((x, height, x, height + 6 * FINE), LINE, THIN)
        draw.text((x, height + 12 * FINE), str(yaw), DIM, font(SMALL), anchor="mt")
    for pitch, anchor in ((90, "rt"), (45, "rm"), (0, "rm"), (-45, "rm"), (-90, "rb")):
        y = (90 - pitch) / 180 * height
        draw.line((MARGIN - 6 * FINE, y, MARGIN, y), LINE, THIN)
        draw.text((MARGIN - 10 * FINE, y), str(pitch), DIM, font(SMALL), anchor=anchor)


def _draw_legend(panel: Image.Image) -> None:
    """Below the map: what its grounds mean."""
    texts = ("seen by no view", "1", "2", "3 or more")
    swatches = [hatched(SWATCH), *(Image.new("RGB", SWATCH, colour) for colour in COUNTS[1:])]
    gap, draw, top = 10 * FINE, ImageDraw.Draw(panel), SPHERE[1] + AXIS + (LEGEND - SWATCH[1]) // 2
    lengths = [SWATCH[0] + gap + draw.textlength(text, font(SMALL)) for text in texts]
    x = (WIDTH - sum(lengths) - 3 * gap * (len(texts) - 1)) / 2
    for swatch, text, length in zip(swatches, texts, lengths, strict=True):
        panel.paste(swatch, (round(x), top))
        draw.rectangle((round(x), top, round(x) + SWATCH[0], top + SWATCH[1]), outline=LINE, width=THIN)
        draw.text((x + SWATCH[0] + gap, top + SWATCH[1] / 2), text, DIM, font(SMALL), anchor="lm")
        x += length + 3 * gap
