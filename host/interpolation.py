"""The frames between key frames: made in stages, each a run of the host's sampler over all gaps."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch

from ..caa.weights.kinds import DEPTH
from ..geometry.scene import Scene
from ..geometry.sequence.windows import interpolation_stages, rows_of_stage
from .begin import with_cameras
from .checks import check_cameras, check_window
from .quirks import pixels_per_latent
from .rows import FrameRows
from .setup import KEY
from .tensors import to_intermediate

NODE = "Interpolate Keyframes"


@dataclass(frozen=True)
class Settings:
    """What the host's KSampler is told, too."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str


def interpolate(
    model, cameras: Scene, keyframes: dict, positive, negative, settings: Settings, window: int, shared: int
) -> dict:
    """The host's LATENT of all V frames, from that of the K key frames, which stay as they are.

    The frames between two key frames are denoised together with both, which the image condition tells of (section 4.2
    of the paper); what comes out for the key frames themselves is dropped. Conditionings hold 1 row, K or V. window,
    shared: those of `interpolation_stages`. Raises ValueError for what does not fit, before any model is loaded.
    """
    frames = _key_frames(cameras)
    check_window(NODE, window, shared, least=3)
    _check_keyframes(keyframes["samples"], cameras, model.get_model_object("latent_format"))
    _check_weights(model)
    conditionings, rows_of = {"positive": positive, "negative": negative}, FrameRows(NODE, cameras)
    for name, conditioning in conditionings.items():
        rows_of.of(name, conditioning, range(cameras.views))
    given = keyframes["samples"].float()
    latents = given.new_zeros((cameras.views, *given.shape[1:]))
    latents[list(frames)] = given
    # Key frames have the noise that they were sampled with where the seed is the same, all others noise of their own.
    others = [view for view in range(cameras.views) if view not in frames]
    drawn = comfy.sample.prepare_noise(latents, settings.seed)
    noise = torch.empty_like(drawn)
    noise[[*frames, *others]] = drawn
    stages = interpolation_stages(frames, window, shared)
    steps = len(_sampler(model, settings).sigmas) - 1
    callback = latent_preview.prepare_callback(model, steps * len(stages))
    known = set(frames)
    for number, stage in enumerate(stages):

        def progress(step, x0, x, _, done=number * steps):  # samplers that choose their steps may take more
            callback(done + min(step, steps - 1), x0, x, steps * len(stages))

        rows, windows = rows_of_stage(stage)
        made = _sampler(with_cameras(model, cameras.subset(rows), windows, latents[rows]), settings).sample(
            noise[rows],
            *(rows_of.of(name, conditioning, rows) for name, conditioning in conditionings.items()),
            cfg=settings.cfg,
            latent_image=torch.zeros_like(latents[rows]),
            callback=progress,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=settings.seed,
        )
        for row, view in enumerate(rows):
            if view not in known:
                latents[view] = made[row].to(latents)
        known |= set(rows)
    return {"samples": to_intermediate(latents)}


def _sampler(model, settings: Settings) -> comfy.samplers.KSampler:
    return comfy.samplers.KSampler(
        model,
        steps=settings.steps,
        device=model.load_device,
        sampler=settings.sampler_name,
        scheduler=settings.scheduler,
        denoise=1.0,
        model_options=model.model_options,
    )


def _key_frames(cameras: Scene) -> tuple[int, ...]:
    """The cameras' key frames. Raises ValueError for cameras that have none, or nothing between them."""
    if cameras.keyframes is None:
        raise ValueError(
            f"{NODE}: cameras are those of a {cameras.scene_noun}, which has no key frames: use Depth Cameras."
        )
    check_cameras(cameras)
    if not cameras.keyframes:
        raise ValueError(
            f"{NODE}: cameras are those of the key frames alone, with nothing between them: connect `cameras` of Depth "
            "Cameras, not `keyframe_cameras`."
        )
    if (cameras.keyframes[0], cameras.keyframes[-1]) != (0, cameras.views - 1):
        raise ValueError(f"{NODE}: the first and the last frame must be key frames, not {cameras.keyframes}.")
    return cameras.keyframes


def _check_keyframes(latents: torch.Tensor, cameras: Scene, latent_format) -> None:
    ratio = pixels_per_latent(latent_format)
    size = cameras.height // ratio, cameras.width // ratio
    expected = len(cameras.keyframes or ()), latent_format.latent_channels, *size
    if latents.shape != expected:
        raise ValueError(
            f"{NODE}: keyframes is a LATENT of {tuple(latents.shape)}, and these cameras need {expected}: one per key "
            "frame, from Multi-View KSampler with `keyframe_cameras` of the same Depth Cameras."
        )
    if not torch.isfinite(latents).all():
        raise ValueError(f"{NODE}: keyframes holds NaN or infinite numbers: fix the node that it comes from.")


def _check_weights(model) -> None:
    patchers = model.get_additional_models_with_key(KEY)
    if not patchers or patchers[0].model.kind != DEPTH:
        kind = "no MVDiffusion weights" if not patchers else f"{patchers[0].model.kind.name} weights"
        raise ValueError(
            f"{NODE}: this MODEL holds {kind}, and only depth weights can make the frames between key frames: load "
            "the authors' depth_gen.ckpt."
        )
