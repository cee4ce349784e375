"""Panoramas as files that other programs take for panoramas, and ComfyUI for its own."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import torch
from comfy.cli_args import args
from comfy_api.latest import io, ui
from PIL import Image, PngImagePlugin

from ..geometry.files import appearing_whole
from ..geometry.input_error import InputError, check_choice_of
from ..geometry.panorama.gpano import covered_box, gpano_xmp
from .folders import new_files, writing_to

logger = logging.getLogger("MVDiffusion")

FORMATS = {"png": ".png", "jpeg": ".jpg"}
JPEG_SEGMENT = 65533  # bytes that one segment of a JPEG file can hold
MAKE, MODEL = 0x010F, 0x0110  # EXIF tags: where the host puts workflow and prompt in files without text of their own


def save_panoramas(
    pictures: torch.Tensor,
    coverage: torch.Tensor | None,
    filename_prefix: str,
    format: str,
    start_yaw_deg: float,
    cls: type[io.ComfyNode],
) -> ui.SavedImages:
    """Writes P panoramas to the host's output folder, each cropped to its coverage, with the run's workflow and GPano.

    pictures: (P, H, 2 H, 3) in 0..1. coverage: (P, H, 2 H) or None for whole panoramas. format: one of FORMATS.
    cls: the node, for the workflow that its run belongs to.
    Raises InputError for another format, and for a yaw that is not finite.
    """
    check_choice_of("format", format, FORMATS)
    if not math.isfinite(start_yaw_deg):
        raise InputError(f"start_yaw must be finite, not {start_yaw_deg:g} degrees")
    height, width = pictures.shape[1:3]
    whole = slice(0, height), slice(0, width)
    boxes = [whole] * len(pictures) if coverage is None else [covered_box(part) for part in coverage]
    folder, name, counter, subfolder = new_files("Save Panorama", filename_prefix, "panorama", width, height)
    results, texts = [], _texts(cls)
    with writing_to("Save Panorama", folder):
        names = _free_names(folder, name, counter, len(pictures), format)
        for picture, box, file in zip(pictures, boxes, names, strict=True):
            _write(Path(folder, file), format, _as_8_bit(picture[box]), texts, gpano_xmp(height, box, start_yaw_deg))
            results.append(ui.SavedResult(file, subfolder, io.FolderType.output))
    return ui.SavedImages(results)


def _free_names(folder: str, name: str, counter: int, count: int, format: str) -> list[str]:
    """Names for `count` files, numbered from `counter` on, or from where all are free: the host does not count files
    whose names hold %batch_num%."""
    while True:
        names = [f"{name.replace('%batch_num%', str(i))}_{counter + i:05}_{FORMATS[format]}" for i in range(count)]
        if not any(Path(folder, file).exists() for file in names):
            return names
        counter += 1


def _texts(cls: type[io.ComfyNode]) -> dict[str, str]:
    """What the host's Save Image writes beside the pixels: the prompt and the workflow by name, as JSON."""
    if args.disable_metadata or not cls.hidden:
        return {}
    values = {"prompt": cls.hidden.prompt, **(cls.hidden.extra_pnginfo or {})}
    return {name: json.dumps(value) for name, value in values.items() if value}


def _as_8_bit(picture: torch.Tensor) -> Image.Image:
    """A (h, w, 3) picture in 0..1, rounded."""
    return Image.fromarray((picture * 255).round().to("cpu", torch.uint8).numpy())


def _write(path: Path, format: str, picture: Image.Image, texts: dict[str, str], xmp: str) -> None:
    """The file appears whole or not at all."""
    options = {"png": _png_options, "jpeg": _jpeg_options}[format](texts, xmp)
    with appearing_whole(path) as unfinished:
        picture.save(unfinished, format, **options)


def _png_options(texts: dict[str, str], xmp: str) -> dict:
    """How Pillow is to write a PNG file; compressed as much as the host's."""
    chunks = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        chunks.add_text(name, text)
    chunks.add_itxt("XML:com.adobe.xmp", xmp)
    return {"pnginfo": chunks, "compress_level": 4}


def _jpeg_options(texts: dict[str, str], xmp: str) -> dict:
    """How Pillow is to write a JPEG file, with the colours as finely resolved as the brightness."""
    # Pillow before 11.0 takes no `xmp` here, but all of them take segments ready to be written.
    content = b"http://ns.adobe.com/xap/1.0/\0" + xmp.encode()
    segment = b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content
    return {"quality": 95, "subsampling": "4:4:4", "exif": _exif(texts), "extra": segment}


def _exif(texts: dict[str, str]) -> bytes:
    """Prompt and workflow as the host writes them into WebP files; nothing where they are too long for JPEG."""
    exif = Image.Exif()
    for tag, name in ((MAKE, "workflow"), (MODEL, "prompt")):
        if name in texts:
            exif[tag] = f"{name}:{texts[name]}"
    data = exif.tobytes() if exif else b""
    if len(data) <= JPEG_SEGMENT:
        return data
    logger.warning(
        f"Save Panorama: the workflow takes {len(data) // 1024} KB, and a JPEG file holds 63 at most. The panorama is "
        "saved without it; save as png to keep it."
    )
    return b""
