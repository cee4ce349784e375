"""MODEL, CLIP and VAE from the authors' single file, by the host's own loaders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.diffusers_convert
import comfy.model_base
import comfy.sd
import comfy.utils
import folder_paths
import torch

from ..caa.weights.kinds import caa_prefix, identify
from ..caa.weights.tensor_files import TensorFile
from ..geometry.input_error import InputError
from .quirks import without_dynamic
from .sd2 import SD2_UNET

_UNET = "model.diffusion_model."
_VAE = "first_stage_model."
_CLIP = "cond_stage_model.model.transformer."


def load_base_models(file: TensorFile):
    """(MODEL, CLIP, VAE) of an authors' file, without its CAA blocks. Tensors stay mapped until the host copies them.

    The MODEL predicts the noise, whatever the host guesses from its weights. Raises InputError where the file is not
    MVDiffusion's, lacks UNet, VAE or text encoder, or has another UNet than SD 2's.
    """
    model, clip, vae = _load(file, ("model", "clip", "vae"))
    for part, patcher in (("model", model), ("clip", clip.patcher), ("vae", vae.patcher)):
        patcher.cached_patcher_init = (load_base_patcher, (file.path, part))
    return model, clip, vae


def load_base_patcher(path: str | Path, part: str, disable_dynamic: bool = False):
    """The patcher of 'model', 'clip' or 'vae', loaded anew: ComfyUI 0.33 asks for it where a device needs its own."""
    model, clip, vae = _load(TensorFile(path), (part,), disable_dynamic)
    return model if part == "model" else (clip or vae).patcher


def unet_patches(file: TensorFile, model) -> dict[str, tuple[str, tuple[torch.Tensor]]]:
    """The file's UNet as patches for the MODEL that set its weights; none where the file holds none.

    Tensors stay mapped until the host copies them. Raises InputError where it is another UNet's.
    """
    prefix = (caa_prefix(file.shapes) or "") + "unet."
    tensors = _without_prefix(file.tensors([prefix]), prefix)
    if not tensors:
        return {}
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    unknown = [key for key in tensors if key not in names]
    given = {f"diffusion_model.{names[key]}": tensor for key, tensor in tensors.items() if key in names}
    own = {key: weight.shape for key, weight in model.model_state_dict("diffusion_model.").items()}
    missing = [key for key, shape in own.items() if key not in given or given[key].shape != shape]
    if unknown or missing:
        raise InputError(
            f"{file.path}: its UNet is not this MODEL's ({len(unknown)} weights too many, {len(missing)} missing or of "
            f"another size, such as {(unknown + missing)[0]})",
            "depth_base",
        )
    return {key: ("set", (tensor,)) for key, tensor in given.items()}


def _load(file: TensorFile, parts: tuple[str, ...], disable_dynamic: bool = False) -> tuple[Any, Any, Any]:
    """(MODEL, CLIP, VAE), None for those not in `parts`."""
    state, path = _host_state_dict(file), file.path
    given = set(state)
    loaded = comfy.sd.load_state_dict_guess_config(
        state,
        output_model="model" in parts,
        output_clip="clip" in parts,
        output_vae="vae" in parts,
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        **without_dynamic(disable_dynamic),
    )
    if loaded is None:
        raise InputError(f"{path}: ComfyUI knows no UNet of these widths; the authors' files hold SD 2's")
    model, clip, vae, _ = loaded
    if model is not None:
        _check_complete(path, "UNet", model.model.diffusion_model, {key.removeprefix(_UNET) for key in given})
        _predict_noise(model)
    if vae is not None and "vae" in parts:
        _check_complete(path, "VAE", vae.first_stage_model, _converted_vae_keys(given))
    if clip is not None:
        encoder = clip.cond_stage_model.clip_h.transformer.text_model
        _check_complete(path, "text encoder", encoder, {key.removeprefix(_CLIP + "text_model.") for key in given})
    return model, clip, vae


def _host_state_dict(file: TensorFile) -> dict[str, torch.Tensor]:
    """The file's UNet, VAE and text encoder under the names that the host's checkpoint loader expects.

    UNets in diffusers names with 9 or 5 inputs are unknown to the host; under its own names it takes them.
    """
    shapes, path = file.shapes, file.path
    try:
        identify(shapes, file.metadata)
    except InputError as error:
        raise InputError(f"{path}: {error}", error.remedy) from None
    prefix = caa_prefix(shapes) or ""
    outer = prefix.removesuffix("mv_base_model.")
    places = {"UNet": prefix + "unet.", "VAE": outer + "vae.", "text encoder": outer + "text_encoder."}
    absent = [name for name, place in places.items() if not any(key.startswith(place) for key in shapes)]
    if absent:
        raise InputError(f"{path} holds no {' and no '.join(absent)}", "load_base")
    tensors = file.tensors(places.values())
    unet = _without_prefix(tensors, places["UNet"])
    names = comfy.utils.unet_to_diffusers(SD2_UNET)
    unknown = [key for key in unet if key not in names]
    if unknown:
        raise InputError(f"{path}: the UNet is not SD 2's, it has {len(unknown)} other keys such as {unknown[0]}")
    return {
        **{_UNET + names[key]: tensor for key, tensor in unet.items()},
        **{_VAE + key: tensor for key, tensor in _without_prefix(tensors, places["VAE"]).items()},
        **_with_last_layer(_without_prefix(tensors, places["text encoder"])),
    }


def _without_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _with_last_layer(encoder: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SD 2's text encoder in the host's names, with a last layer that changes nothing where the file has none.

    SD 2 uses the output of the last layer but one of 24, so diffusers keeps 23. The host builds 24 and would leave the
    last one as uninitialised memory. With zeros it adds nothing to its input.
    """
    layers = "text_model.encoder.layers."
    last = {key: torch.zeros_like(encoder[key]) for key in encoder if key.startswith(layers + "22.")}
    last = {key.replace("layers.22.", "layers.23."): tensor for key, tensor in last.items()}
    return {_CLIP + key: tensor for key, tensor in {**last, **encoder}.items()}


def _check_complete(path: str | Path, part: str, module: torch.nn.Module | None, given: set[str]) -> None:
    """Raises InputError if the file lacks weights of a part: the host only logs it, and goes on with random memory."""
    if module is None:
        raise InputError(f"{path}: the {part} lacks weights by which ComfyUI would know it", "get_again")
    missing = [key for key in module.state_dict() if key not in given]
    if missing:
        raise InputError(f"{path}: {len(missing)} weights of the {part} are missing, such as {missing[0]}", "get_again")


def _converted_vae_keys(given: set[str]) -> set[str]:
    """The file's VAE keys as the host renames them."""
    keys = {key.removeprefix(_VAE): torch.empty(0) for key in given if key.startswith(_VAE)}
    return set(comfy.diffusers_convert.convert_vae_state_dict(keys))


def _predict_noise(model) -> None:
    """MVDiffusion predicts epsilon; for SD 2 the host guesses between that and v from the spread of one bias."""
    kinds = comfy.model_base.ModelType
    if model.model.model_type != kinds.EPS:
        sampling = comfy.model_base.model_sampling(model.model.model_config, kinds.EPS)
        model.add_object_patch("model_sampling", sampling)
