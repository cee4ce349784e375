"""ControlNets of the host's own classes with random weights, small enough for the demo model."""

from __future__ import annotations

import torch

CPU = torch.device("cpu")


def control_net(model):
    """A ControlNet as its file gives it, for latents of four channels."""
    import comfy.controlnet

    net = _net(model)
    net.load_state_dict(_random(net.state_dict(), 0.05))
    return comfy.controlnet.ControlNet(net, load_device=CPU, manual_cast_dtype=None)


def control_lora(model):
    """A Control-LoRA, which has layers of its own for the hint, and the MODEL's for all else."""
    import comfy.controlnet

    own = ("input_hint_block.", "zero_convs.", "middle_block_out.")
    weights = {key: value for key, value in _net(model).state_dict().items() if key.startswith(own)}
    return comfy.controlnet.ControlLora(_random(weights, 0.1))


def t2i_adapter(model):
    """A T2I-Adapter in SDXL's form, which reads the hint once and not the latents."""
    import comfy.controlnet
    import comfy.t2i_adapter.adapter

    unet = model.model.model_config.unet_config
    channels = [unet["model_channels"] * factor for factor in unet["channel_mult"][:3]]
    form = dict(nums_rb=1, cin=3 * 16 * 16, ksize=1, sk=True, use_conv=False, xl=True)
    adapter = comfy.t2i_adapter.adapter.Adapter(channels, **form)
    adapter.load_state_dict(_random(adapter.state_dict(), 0.05))
    return comfy.controlnet.T2IAdapter(adapter, adapter.input_channels, 8, "nearest-exact", CPU)


def _net(model):
    """The host's ControlNet for a MODEL's UNet: its first half, and layers for a hint in colours."""
    import comfy.cldm.cldm
    import comfy.ops

    own = {"in_channels": 4, "hint_channels": 3, "operations": comfy.ops.manual_cast, "dtype": torch.float32}
    config = model.model.model_config.unet_config | own
    config.pop("out_channels")
    return comfy.cldm.cldm.ControlNet(**config)


def _random(weights: dict[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {key: scale * torch.randn(weight.shape, generator=generator) for key, weight in weights.items()}
