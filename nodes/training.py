"""The node that trains blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io

from ..caa.weights.checkpoint import CAAWeights, read_caa
from ..caa.weights.kinds import KINDS
from ..geometry.input_error import InputError, check_choice_of
from ..geometry.scene import Scene
from ..host.file_names import file_name, with_host_tokens
from ..host.setup import KEY
from ..host.training.session import YAWS, Training, train
from ..host.training.showing import NodeView
from ..training.collecting import panoramas_in_memory
from ..training.collecting_sequences import sequence_in_memory
from ..training.data import Data
from ..training.distributed import World
from ..training.settings import DTYPES, Settings
from ..training.state import SaveError
from ..training.trainer import LossError
from .loaders import FOLDER
from .remedies import speaks_as
from .schema import MVCameras, schema

NODE = "Train CAA"
IMAGES, ROOMS = "images", "rendered rooms (in the pack)"
NEW, OWN = "new blocks", "those of the MODEL"
RUNS = Path("mvdiffusion", "training")  # in the output folder


class TrainCAA(io.ComfyNode):
    """Train CAA: blocks that make views agree, learnt for any base from anyone's panoramas."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MVDiffusionTrain",
            display_name=NODE,
            description="Trains MVDiffusion's blocks on your own MODEL and your own panoramas or depth sequences. The "
            "MODEL stays as it is; blocks are new, or go on from a file. Stop saves: queue the same graph again to go "
            "on. Without data of your own, it learns from rendered rooms.",
            search_aliases=["training", "fine-tune", "learn", "panorama", "dataset"],
            is_input_list=True,
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[*_base(), *_data(), *_learning(), *_more()],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The MODEL with the trained blocks."),
                io.Custom("LOSS_MAP").Output(display_name="loss_map", tooltip="For Plot Loss Graph."),
                io.Int.Output(display_name="steps", tooltip="How many steps the blocks have learnt."),
            ],
        )

    @classmethod
    @speaks_as(NODE)
    def execute(cls, images=None, captions=None, **inputs) -> io.NodeOutput:
        given = {name: values[0] for name, values in inputs.items()}
        training = _training(_flat(images), captions or [], given)
        hidden = getattr(cls, "hidden", None)
        view = NodeView(getattr(hidden, "unique_id", None), training.settings.steps)
        try:
            trained = train(training, World(), view.onlooker)
        except (LossError, SaveError) as error:
            raise RuntimeError(f"{NODE}: {error}") from error
        return io.NodeOutput(trained.model, {"loss": trained.losses}, trained.steps)


def _base() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="SD 1.5, SD 2, SDXL or a fine-tune. outpainting: an inpainting MODEL."),
        io.Clip.Input("clip", tooltip="The text encoder of the checkpoint."),
        io.Vae.Input("vae", tooltip="The VAE of the checkpoint."),
    ]


def _data() -> list[io.Input]:
    return [
        io.Image.Input(
            "images",
            optional=True,
            tooltip="Equirectangular panoramas, twice as wide as high: a list, as Load Image-Text (from Folder) gives "
            "it, or a batch. depth: the frames of Depth Cameras.",
        ),
        io.String.Input(
            "captions",
            optional=True,
            force_input=True,
            tooltip="One caption per panorama, of 1 line or a line per view; or one for all. depth: the prompts of "
            "Depth Cameras.",
        ),
        MVCameras.Input("cameras", tooltip="The views that are cut out of each panorama. depth: Depth Cameras."),
        io.Combo.Input(
            "kind",
            options=list(KINDS),
            tooltip="panorama: from text. outpainting: one view is given. depth: for depth sequences.",
        ),
    ]


def _learning() -> list[io.Input]:
    return [
        io.Int.Input(
            "steps",
            default=1000,
            min=1,
            max=10_000_000,
            tooltip="Steps in all; with more, a finished run goes on.",
        ),
        io.Int.Input("batch", default=1, min=1, max=4096, tooltip="Panoramas per step."),
        io.Float.Input(
            "learning_rate",
            default=2e-4,
            min=1e-7,
            max=1.0,
            step=1e-7,
            round=False,
            tooltip="Published: 0.0002. It falls along a cosine, to 0.0000001.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=False,  # left out, front ends draw another seed for each queue: another run
            tooltip="Of new blocks, of the order of the panoramas, start yaws and noise.",
        ),
        io.Combo.Input(
            "dtype",
            options=list(DTYPES),
            default="bf16",
            tooltip="What the UNet computes in. The blocks' own weights are fp32. On a CPU fp32 is the fastest.",
        ),
        io.String.Input(
            "run",
            default="my_blocks",
            tooltip="A name. The state is saved under it in output/mvdiffusion/training, and a stopped run goes on.",
        ),
        io.Combo.Input(
            "start",
            options=[NEW, OWN, *folder_paths.get_filename_list(FOLDER)],
            default=NEW,
            optional=True,
            tooltip="new blocks change nothing at first. Or go on from those of the MODEL, or from a file in "
            "models/mvdiffusion.",
        ),
    ]


def _more() -> list[io.Input]:
    """Inputs that may be left as they are."""
    return [
        io.Combo.Input(
            "source",
            options=[IMAGES, ROOMS],
            default=IMAGES,
            optional=True,
            tooltip="What to learn from: images and captions, or furnished rooms that are rendered as they are needed.",
        ),
        io.Int.Input(
            "rooms",
            default=0,
            min=0,
            max=1_000_000,
            optional=True,
            tooltip="How many different rooms are rendered; 0: a new one for each sample.",
        ),
        io.String.Input(
            "prefix",
            default="",
            optional=True,
            tooltip="Set before each caption; the published weights had 'This is one view of a scene. '.",
        ),
        io.Int.Input(
            "validate_every",
            default=500,
            min=0,
            max=1_000_000,
            optional=True,
            tooltip="Steps after which a panorama is sampled and its Overlap PSNR taken. 0: only at the end.",
        ),
        io.Int.Input(
            "save_every",
            default=500,
            min=0,
            max=1_000_000,
            optional=True,
            tooltip="Steps after which the state is saved. 0: only at the end and at Stop.",
        ),
        io.Int.Input(
            "accumulation",
            default=1,
            min=1,
            max=4096,
            optional=True,
            tooltip="In how many passes a step takes its panoramas: less memory, the same result.",
        ),
        io.Int.Input(
            "warm_up", default=0, min=0, max=1_000_000, optional=True, tooltip="Steps in which the learning rate rises."
        ),
        io.Float.Input(
            "dropout",
            default=0.1,
            min=0.0,
            max=0.99,
            step=0.01,
            optional=True,
            tooltip="Share of panoramas that are learnt without their captions, so that cfg works.",
        ),
        io.Float.Input(
            "ema",
            default=0.0,
            min=0.0,
            max=0.99999,
            step=0.00001,
            round=False,
            optional=True,
            tooltip="The result is an average of the weights over the last steps, such as 0.999. 0: the last weights.",
        ),
        io.Boolean.Input(
            "checkpointing",
            default=True,
            optional=True,
            tooltip="Much less memory for about half as much time again. The result is the same.",
        ),
        io.Combo.Input(
            "latents",
            options=list(YAWS),
            default="auto",
            optional=True,
            tooltip="Whether views are cut and encoded anew for each start yaw, or the latents of a few yaws are kept. "
            "auto measures which is better, and says so.",
        ),
        io.Int.Input(
            "unet_steps",
            default=0,
            min=0,
            max=10_000_000,
            optional=True,
            tooltip="depth: steps in which the UNet learns first, alone and on single views. 0: it stays as it is.",
        ),
    ]


def _training(images: list[torch.Tensor], captions: list[str], given: dict[str, Any]) -> Training:
    check_choice_of("source", given.get("source", IMAGES), (IMAGES, ROOMS))
    check_choice_of("latents", given.get("latents", "auto"), YAWS)
    names = set(Settings.__dataclass_fields__) & set(given)
    settings = Settings(**{name: given[name] for name in names})
    return Training(
        given["model"],
        given["clip"],
        given["vae"],
        _given_data(images, captions, given),
        settings,
        _folder(given["run"], given["cameras"]),
        _start(given.get("start", NEW), given["model"]),
        given.get("prefix", ""),
        given.get("unet_steps", 0),
        given.get("latents", "auto"),
    )


def _given_data(images: list[torch.Tensor], captions: list[str], given: dict[str, Any]) -> Data:
    cameras: Scene = given["cameras"]
    views = min(cameras.views, Data.views)
    if given.get("source", IMAGES) == ROOMS:
        if (rooms := given.get("rooms", 0)) < 0:
            raise InputError(f"rooms must be 0 or more, not {rooms}")
        return Data(cameras, rooms=rooms, views=views)
    if cameras.kind == "sequence":
        return Data(cameras, sequences=(sequence_in_memory("the sequence", cameras, images, captions),), views=views)
    return Data(cameras, panoramas=panoramas_in_memory(images, captions, cameras.views))


def _flat(images: list[torch.Tensor] | None) -> list[torch.Tensor]:
    """(H, W, C) pictures of a list of batches."""
    return [picture for batch in images or () if batch is not None for picture in batch]


def _folder(run: str, cameras: Scene) -> Path:
    """Where the states of a run are. Raises InputError for what is no plain name."""
    name = with_host_tokens(file_name(NODE, run), cameras.width, cameras.height)
    if not re.fullmatch(r"\w[\w .-]*", name):
        raise InputError(f"run is '{run}' and must be a plain name of letters, digits, - and _, such as my_blocks")
    return Path(folder_paths.get_output_directory()) / RUNS / name.strip()


def _start(start: str, model) -> tuple[str, CAAWeights] | None:
    if start == NEW:
        return None
    if start == OWN:
        patchers = model.get_additional_models_with_key(KEY)
        if not patchers:
            raise InputError(f"start is '{OWN}', and this MODEL has none", "blocks_of_model")
        return start, patchers[0].model.read()
    if start not in folder_paths.get_filename_list(FOLDER):
        raise InputError(f"start is '{start}', and there is no such file in models/mvdiffusion", "choose_start")
    return start, read_caa(folder_paths.get_full_path_or_raise(FOLDER, start))
