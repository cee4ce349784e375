"""What people read when a node refuses its input: its title, what is wrong, and what would be right."""

from __future__ import annotations

import ast
import asyncio
import inspect
import math
import re
from collections.abc import Iterator

import pytest
import torch
from in_process import ROOT
from safetensors.torch import save_file

from mvdiffusion_pack.geometry.input_error import InputError
from mvdiffusion_pack.geometry.layouts import cube, ring
from mvdiffusion_pack.geometry.panorama_views import PanoramaViews

pytestmark = pytest.mark.host

BELOW = "geometry", "caa", "scenes", "training", "host", "nodes"


def parts(*folders: str) -> Iterator[ast.AST]:
    """All parts of the sources in these folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def named(part: ast.AST) -> list[str]:
    """The remedies that an argument can name, as patterns. What only passes another's on names none."""
    match part:
        case ast.Constant(value=str(name)):
            return [re.escape(name)] if name else []
        case ast.JoinedStr(values=values):
            return ["".join(re.escape(v.value) if isinstance(v, ast.Constant) else ".+" for v in values)]
        case ast.IfExp(body=one, orelse=other):
            return named(one) + named(other)
        case ast.Attribute(attr="remedy") | ast.Name(id="remedy"):
            return []
    raise AssertionError(f"the name of a remedy is to be read in the source: {ast.unparse(part)}")


def remedies_named() -> set[str]:
    """All that errors are raised with: the second argument of InputError, and what is called a remedy anywhere."""
    calls = [part for part in parts(*BELOW) if isinstance(part, ast.Call)]
    raised = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "InputError"]
    arguments = [call.args[1] for call in raised if len(call.args) > 1]
    arguments += [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "remedy"]
    return {name for argument in arguments for name in named(argument)}


def test_every_remedy_is_known_and_every_one_is_used(comfy):
    from mvdiffusion_pack.nodes.remedies import REMEDIES

    names = remedies_named()
    assert [name for name in sorted(names) if not any(re.fullmatch(name, known) for known in REMEDIES)] == []
    assert [known for known in REMEDIES if not any(re.fullmatch(name, known) for name in names)] == []


def test_remedies_follow_a_fact_and_the_full_stop_follows_them(comfy):
    from mvdiffusion_pack.nodes.remedies import REMEDIES

    assert [text for text in REMEDIES.values() if not re.fullmatch(r"(: |; |, |\. [A-Z])\S(.*\S)?(?<!\.)", text)] == []


@pytest.fixture(scope="module")
def nodes(comfy) -> dict[str, type]:
    """The pack's nodes by their titles."""
    from mvdiffusion_pack.nodes import MVDiffusionExtension

    return {node.GET_SCHEMA().display_name: node for node in asyncio.run(MVDiffusionExtension().get_node_list())}


def test_every_node_speaks_under_its_own_title(nodes):
    """What `speaks_as` was given stands in what it makes of `execute`."""
    spoken = {title: inspect.getclosurevars(node.execute).nonlocals.get("title") for title, node in nodes.items()}
    assert spoken == {title: title for title in nodes}


@pytest.mark.parametrize("fact", ["there is one camera", "there is one camera."])
def test_sentences_end_in_one_full_stop(comfy, fact):
    from mvdiffusion_pack.nodes.remedies import sentence

    assert sentence("Overlap PSNR", InputError(fact)) == "Overlap PSNR: there is one camera."
    assert sentence("Overlap PSNR", InputError(fact, "one_camera")) == (
        "Overlap PSNR: there is one camera. Use two or more."
    )


def pictures(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def moved() -> PanoramaViews:
    """Two views that are not taken from one point."""
    level = ring(2, 100, 32, 32)
    poses = level.cam_to_world.clone()
    poses[1, 0, 3] = 0.1
    return PanoramaViews(level.intrinsics, poses, 32, 32)


RING = ring(4, 120, 32, 32)
VIEWS, PHOTO, PANORAMA = pictures(4, 32, 32, 3), pictures(1, 16, 24, 3), pictures(1, 32, 64, 3)
SOURCE = dict(image=PHOTO, cameras=RING, yaw=0.0, pitch=0.0, roll=0.0, fov=0.0)
STITCH = dict(images=VIEWS, cameras=RING, width=128, blend="feather")
SAVE = dict(equirect=PANORAMA, filename_prefix="panorama", format="png", start_yaw=0.0)
CAMERAS = dict(layout="ring", views=8, fov=90.0, width=64, height=64, start_yaw=0.0, pitch=0.0)
DEPTH = dict(
    sequence="demo (in the pack)",
    start=0,
    stride=1,
    max_frames=2,
    width=64,
    height=64,
    min_overlap=0.3,
    keyframe_overlap=0.6,
)
BOTH = "connect both, from an earlier Source Image to Views or from Equirect to Views, or neither."


@pytest.mark.parametrize(
    ("title", "inputs", "said"),
    [
        (
            "Panorama Cameras",
            CAMERAS | {"fov": 180.0},
            "fov must lie between 0 and 180 degrees (exclusive), not 180.0.",
        ),
        (
            "Panorama Cameras",
            CAMERAS | {"layout": "cube", "height": 32},
            "the faces of a cube are square, not 64 x 32: make width and height equal.",
        ),
        (
            "Panorama Cameras",
            CAMERAS | {"layout": "rings", "views": 4096},
            "3 rings of 4096 views make 12288 views, and 4096 is the most.",
        ),
        (
            "Source Image to Views",
            SOURCE | {"fov": 180.0},
            "the source's fov must lie between 0 and 180 degrees (exclusive), or be 0 for that of view 0, not 180.0.",
        ),
        (
            "Stitch Equirect",
            STITCH | {"source": PHOTO, "source_fov": 180.0},
            "the source's fov must lie between 0 and 180 degrees (exclusive), or be 0 for that of view 0, not 180.0.",
        ),
        (
            "Source Image to Views",
            SOURCE | {"image": PHOTO * math.nan},
            "there are NaN or infinite numbers in the image: if a VAE made them, start ComfyUI with --fp32-vae.",
        ),
        (
            "Stitch Equirect",
            STITCH | {"source": PHOTO[:0]},
            "there is nothing in the source, (0, 16, 24, 3): at least one picture is needed.",
        ),
        (
            "Source Image to Views",
            SOURCE | {"cameras": moved()},
            "a photo fits only views taken from one point, but these cameras stand in different places: use Panorama "
            "Cameras.",
        ),
        (
            "Stitch Equirect",
            STITCH | {"images": VIEWS[:2], "cameras": moved()},
            "only views taken from one point can be joined, but these cameras stand in different places: use Panorama "
            "Cameras.",
        ),
        (
            "Equirect to Views",
            {"equirect": PANORAMA, "cameras": moved()},
            "only views taken from one point can be cut from a panorama, but these cameras stand in different places: "
            "use Panorama Cameras.",
        ),
        ("Source Image to Views", SOURCE | {"views": VIEWS}, f"there is a views input and no mask: {BOTH}"),
        (
            "Source Image to Views",
            SOURCE | {"views": pictures(4, 16, 32, 3), "mask": torch.ones(4, 16, 32)},
            "the views are 32 x 16 pixels and the cameras' 32 x 32: make them with the same cameras.",
        ),
        (
            "Source Image to Views",
            SOURCE | {"views": VIEWS, "mask": torch.ones(1, 32, 32)},
            "the mask must be (4, 32, 32) like the views, not (1, 32, 32): connect the mask that came with them.",
        ),
        (
            "Source Image to Views",
            SOURCE | {"pitch": 85.0, "fov": 20.0},
            "the source touches no view. It looks towards yaw 0.0, pitch 85.0 degrees and covers 20 x 13.4 degrees, "
            "and no pixel of the cameras lies there; change its yaw, pitch or fov, or the cameras.",
        ),
        (
            "Stitch Equirect",
            STITCH | {"source": PHOTO, "source_fov": 0.01},
            "the source touches no pixel of the panorama. It covers 0.01 x 0.0067 degrees and falls between pixels "
            "that are 2.8 degrees apart: use a larger source_fov or width.",
        ),
        ("Stitch Equirect", STITCH | {"width": 127}, "width must be even, or 0 for the native one, not 127."),
        (
            "Stitch Equirect",
            STITCH | {"background": PANORAMA.repeat(2, 1, 1, 1)},
            "there are 2 pictures in background for 1 panorama: give one, or one for each.",
        ),
        (
            "Equirect to Views",
            {"equirect": VIEWS, "cameras": RING},
            "an equirectangular panorama is twice as wide as high, not 32 x 32 pixels: connect a panorama, such as "
            "that of Stitch Equirect; Load Panorama puts a cropped one's file in its place.",
        ),
        (
            "Equirect to Views",
            {"equirect": torch.zeros(1, 752, 1392, 3), "cameras": RING},
            "an equirectangular panorama is twice as wide as high, not 1392 x 752 pixels, though nearly so. 1392 x 696 "
            "would be right: scale it to that with Upscale Image, without crop.",
        ),
        (
            "Save Panorama",
            SAVE | {"equirect": torch.zeros(1, 511, 1024, 3)},
            "an equirectangular panorama is twice as wide as high, not 1024 x 511 pixels, though nearly so. 1024 x 512 "
            "would be right: scale it to that with Upscale Image, without crop.",
        ),
        (
            "Preview Panorama",
            {"equirect": torch.zeros(1, 64, 512, 3)},
            "an equirectangular panorama is twice as wide as high, not 512 x 64 pixels: if it is a strip all around, "
            "pad it to 2:1 above and below, or open its file with Load Panorama, which does that.",
        ),
        (
            "Equirect to Views",
            {"equirect": PANORAMA, "cameras": RING, "mask": torch.zeros(1, 64, 64)},
            "the mask must be (1, 32, 64) like the panorama, not (1, 64, 64): scale it to the panorama's size (Load "
            "Image gives 64 x 64 where no mask was painted).",
        ),
        (
            "Equirect to Views",
            {"equirect": PANORAMA, "cameras": RING, "mask": torch.zeros(2, 32, 64)},
            "the mask must be (1, 32, 64) like the panorama, not (2, 32, 64): give one, or one for each.",
        ),
        (
            "Preview Panorama",
            {"equirect": PANORAMA, "coverage": torch.zeros(1, 32, 64)},
            "the coverage of panorama 0 is 0 everywhere: it must be 1 where the panorama has a picture, as Stitch "
            "Equirect's is. Leave it out for a whole panorama.",
        ),
        (
            "Save Panorama",
            SAVE | {"coverage": torch.full((1, 32, 64), 0.25)},
            "the coverage is nowhere above 0.5, only 0.25 at most, so nothing would be saved: it must be 1 where the "
            "panorama has a picture, as Stitch Equirect's is. Leave it out for a whole panorama.",
        ),
        (
            "Overlap PSNR",
            {"images": pictures(6, 32, 32, 3), "cameras": cube(32, 32)},
            "these cameras have no neighbours (the faces of a cube do not overlap), so there is nothing to compare. "
            "Choose ring, sphere or rings in Panorama Cameras.",
        ),
        (
            "Rotate Panorama",
            {"equirect": PANORAMA, "yaw": 0.0, "pitch": math.nan, "roll": math.inf},
            "yaw, pitch and roll must be finite, not 0, nan and inf degrees.",
        ),
        ("Save Panorama", SAVE | {"start_yaw": math.nan}, "start_yaw must be finite, not nan degrees."),
        ("Save Panorama", SAVE | {"format": "gif"}, "format must be one of png, jpeg, not 'gif'."),
        (
            "Save Posed Views",
            {"images": VIEWS, "cameras": RING, "folder": "views", "format": "webp"},
            "format must be one of jpeg, png, not 'webp'.",
        ),
        ("Load Demo Model", {"kind": "sphere"}, "kind must be one of panorama, outpainting, depth, not 'sphere'."),
        (
            "Save MVDiffusion",
            {"model": None, "filename_prefix": "x", "dtype": "fp8"},
            "dtype must be one of fp16, fp32, not 'fp8'.",
        ),
        (
            "Load MVDiffusion",
            {"model": None, "checkpoint": "x", "strength": 1.0, "attention": "slow"},
            "attention must be one of auto, torch, plain, not 'slow'.",
        ),
        ("Depth Cameras", DEPTH | {"min_overlap": math.nan}, "min_overlap must lie between 0 and 1, not nan."),
        ("Depth Cameras", DEPTH | {"keyframe_overlap": 1.5}, "keyframe_overlap must lie between 0 and 1, not 1.5."),
        (
            "Save Posed Views",
            {"images": VIEWS, "cameras": RING, "folder": "views"},
            "these cameras have no depth, like those of a panorama: connect the cameras of Depth Cameras.",
        ),
    ],
)
def test_whole_sentences(nodes, title, inputs, said):
    with pytest.raises(ValueError) as raised:
        nodes[title].execute(**inputs)
    assert str(raised.value) == f"{title}: {said}"


@pytest.mark.parametrize("title", ["Load MVDiffusion", "Load MVDiffusion Checkpoint"])
def test_files_of_something_else_are_named_with_what_to_do(nodes, title, tmp_path, monkeypatch):
    import folder_paths

    path = tmp_path / "style.safetensors"
    save_file({"lora_unet_mid.lora_up.weight": torch.zeros(4, 4)}, path)
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda folder: [path.name])
    monkeypatch.setattr(folder_paths, "get_full_path_or_raise", lambda folder, name: str(path))
    inputs = dict(checkpoint=path.name, strength=1.0)
    if title == "Load MVDiffusion":
        inputs["model"] = nodes["Load Demo Model"].execute("panorama").args[0]
    with pytest.raises(ValueError) as raised:
        nodes[title].execute(**inputs)
    assert str(raised.value) == (
        f"{title}: {path}: the file is a LoRA, not MVDiffusion weights: apply it to the MODEL with Load LoRA instead."
    )
