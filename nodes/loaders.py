"""Nodes that load and save weights."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import folder_paths
import torch
from comfy_api.latest import io

from ..caa.attention.tables import WAYS
from ..caa.weights.checkpoint import caa_of, read_caa
from ..caa.weights.kinds import KINDS
from ..caa.weights.tensor_files import TensorFile
from ..geometry.input_error import check_choice_of
from ..host.begin import MOST_STRENGTH
from ..host.demo import demo_blocks, demo_models
from ..host.fingerprints import fingerprint
from ..host.folders import new_files
from ..host.loading import load_base_models
from ..host.weights import attach_weights, save_weights, with_tuned_unet
from .remedies import speaks_as
from .schema import schema

FOLDER = "mvdiffusion"
WHERE = (
    "put the authors' pano.ckpt, pano_outpaint.ckpt or depth_gen.ckpt (Model Zoo of github.com/Tangshitao/MVDiffusion) "
    "into ComfyUI/models/mvdiffusion, then press R to refresh; without it, Load Demo Model shows how everything works"
)
DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
NO_FILE = "(no file in models/mvdiffusion)"


def register_models_folder() -> None:
    """models/mvdiffusion in the host's folder list, with the usual weight files; a user's own paths stay."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))
    folder_paths.folder_names_and_paths[FOLDER][1].update(folder_paths.supported_pt_extensions)


def _checkpoint(others: str = "") -> io.Combo.Input:
    return io.Combo.Input(
        "checkpoint",
        options=folder_paths.get_filename_list(FOLDER) or [NO_FILE],
        tooltip=f"A file in models/mvdiffusion: one of the authors' checkpoints as it is{others}.",
    )


def _strength(optional: bool = False) -> io.Float.Input:
    return io.Float.Input(
        "strength",
        default=1.0,
        min=0.0,
        max=MOST_STRENGTH,
        step=0.05,
        optional=optional,
        tooltip="How much the views listen to each other: 1 as trained, 0 not at all.",
    )


def _attention() -> io.Combo.Input:
    return io.Combo.Input(
        "attention",
        options=list(WAYS),
        default=WAYS[0],
        optional=True,
        tooltip="auto is the fast way, with compiled kernels where they work. torch is the same without them; plain is "
        "slow and simple. All give the same picture up to rounding.",
    )


def _unknown(checkpoint: str | None) -> str | None:
    """What is wrong with the name of a checkpoint, or None. None as a name: it comes by a link and is not known yet."""
    if checkpoint is None or checkpoint in folder_paths.get_filename_list(FOLDER):
        return None
    missing = "There is no file" if checkpoint == NO_FILE else f"There is no '{checkpoint}'"
    return f"{missing} in models/mvdiffusion: {WHERE}."


def _path(checkpoint: str) -> str:
    """The path of a file in models/mvdiffusion. Raises ValueError for names that are not in the list."""
    fault = _unknown(checkpoint)
    if fault:
        raise ValueError(fault)
    return folder_paths.get_full_path_or_raise(FOLDER, checkpoint)


def _fingerprint(checkpoint: str | None) -> str:
    """Of the file; of all files where the name comes by a link and is not known yet."""
    names = folder_paths.get_filename_list(FOLDER) if checkpoint is None else [checkpoint]
    return fingerprint(folder_paths.get_full_path(FOLDER, name) or name for name in names)


class LoadMVDiffusion(io.ComfyNode):
    """Load MVDiffusion: the blocks that make views agree, put into a MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionLoad",
            display_name="Load MVDiffusion",
            description="Puts MVDiffusion's correspondence-aware attention into a Stable Diffusion MODEL, so that "
            "views sampled together agree. LoRAs and ControlNets go before or after it. Depth weights bring their own "
            "UNet.",
            search_aliases=["panorama", "multi-view", "caa", "correspondence"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From ComfyUI's own loader: Stable Diffusion 2 (512-base) for the authors' files, "
                    "for others the base that they were trained on.",
                ),
                _checkpoint(", or a file from Save MVDiffusion"),
                _strength(),
                _attention(),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="The MODEL with the blocks; the one that came in is not changed."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint) -> bool | str:
        return _unknown(checkpoint) or True

    @classmethod
    def fingerprint_inputs(cls, checkpoint, **_) -> str:
        return _fingerprint(checkpoint)

    @classmethod
    @speaks_as("Load MVDiffusion")
    def execute(cls, model, checkpoint, strength, attention=WAYS[0]) -> io.NodeOutput:
        check_choice_of("attention", attention, WAYS)
        file = TensorFile(_path(checkpoint))
        again = speaks_as("Load MVDiffusion")(partial(read_caa, file.path))  # the host calls it outside of this node
        model = attach_weights(model, again, strength, attention, caa_of(file))
        return io.NodeOutput(with_tuned_unet(model, file))


class LoadMVDiffusionCheckpoint(io.ComfyNode):
    """Load MVDiffusion Checkpoint: everything from the authors' single file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionLoadCheckpoint",
            display_name="Load MVDiffusion Checkpoint",
            description="Loads MODEL, CLIP and VAE from the authors' single file, which holds Stable Diffusion 2 "
            "beside MVDiffusion's blocks. Nothing else needs to be downloaded.",
            search_aliases=["panorama", "multi-view", "checkpoint", "pano.ckpt"],
            inputs=[_checkpoint(), _strength(), _attention()],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Stable Diffusion 2 with MVDiffusion's blocks."),
                io.Clip.Output(display_name="clip", tooltip="The text encoder, for Multi-View Text Encode."),
                io.Vae.Output(display_name="vae", tooltip="The VAE, for VAE Decode."),
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint) -> bool | str:
        return _unknown(checkpoint) or True

    @classmethod
    def fingerprint_inputs(cls, checkpoint, **_) -> str:
        return _fingerprint(checkpoint)

    @classmethod
    @speaks_as("Load MVDiffusion Checkpoint")
    def execute(cls, checkpoint, strength, attention=WAYS[0]) -> io.NodeOutput:
        check_choice_of("attention", attention, WAYS)
        file = TensorFile(_path(checkpoint))
        model, clip, vae = load_base_models(file)
        again = speaks_as("Load MVDiffusion Checkpoint")(partial(read_caa, file.path))
        model = attach_weights(model, again, strength, attention, caa_of(file))
        return io.NodeOutput(model, clip, vae)


class LoadDemoModel(io.ComfyNode):
    """Load Demo Model: small models, so that every graph runs with nothing downloaded."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionLoadDemo",
            display_name="Load Demo Model",
            description="A small MODEL with MVDiffusion's blocks, CLIP and VAE, which come with the pack and paint "
            "simple rooms: to try graphs without downloading anything. Ask for 'a room with a red sofa and a wooden "
            "table, blue walls, wooden floor', in a line per view or in one for all. It knows sofas, beds, tables, "
            "chairs, cabinets, bookshelves, floor lamps, plants, balls, windows, doors and pictures; ten colours; "
            "plain, striped and brick walls; wooden and tiled floors and carpets. It passes over other words.",
            search_aliases=["test", "example", "tiny"],
            inputs=[
                io.Combo.Input(
                    "kind",
                    options=list(KINDS),
                    tooltip="panorama: from text. outpainting: also takes a given view. depth: for depth sequences.",
                ),
                _strength(optional=True),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model",
                    tooltip="A small UNet with blocks, for views of 64 to 256 pixels; best at 128.",
                ),
                io.Clip.Output(display_name="clip", tooltip="A small text encoder."),
                io.Vae.Output(display_name="vae", tooltip="A small VAE."),
            ],
        )

    @classmethod
    @speaks_as("Load Demo Model")
    def execute(cls, kind, strength=1.0) -> io.NodeOutput:
        check_choice_of("kind", kind, KINDS)
        model, clip, vae = demo_models(KINDS[kind])
        return io.NodeOutput(attach_weights(model, partial(demo_blocks, KINDS[kind]), strength), clip, vae)


class SaveMVDiffusion(io.ComfyNode):
    """Save MVDiffusion: the blocks alone, as a small safetensors file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionSave",
            display_name="Save MVDiffusion",
            description="Saves the MVDiffusion blocks of a MODEL, without the UNet, as a safetensors file in the "
            "output folder. Move it to models/mvdiffusion to load it with Load MVDiffusion.",
            search_aliases=["export", "convert", "slim", "safetensors"],
            inputs=[
                io.Model.Input("model", tooltip="A MODEL with MVDiffusion's blocks."),
                io.String.Input(
                    "filename_prefix",
                    default="mvdiffusion/mvdiffusion",
                    tooltip="Folder and name in the output folder. Tokens are filled in, such as %date:yyyy-MM-dd%.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPES),
                    tooltip="fp16 halves the file, with no visible loss.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    @speaks_as("Save MVDiffusion")
    def execute(cls, model, filename_prefix, dtype) -> io.NodeOutput:
        check_choice_of("dtype", dtype, DTYPES)
        folder, name, counter, _ = new_files("Save MVDiffusion", filename_prefix, "mvdiffusion")
        path = os.path.join(folder, f"{name}_{counter:05}_.safetensors")
        save_weights(model, path, DTYPES[dtype])
        return io.NodeOutput(ui={"text": [path]})
