"""Train CAA as the host's executor calls it: inside of inference mode, all inputs as lists."""

from __future__ import annotations

import torch


def picture(seed: int, height: int = 64) -> torch.Tensor:
    """(1, height, 2 height, 3) soft colours."""
    small = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(seed))
    size = (height, 2 * height)
    return torch.nn.functional.interpolate(small, size=size, mode="bilinear").movedim(1, -1)


def without_validation(monkeypatch) -> None:
    """Validations take longer than the few steps of most tests."""
    session = "mvdiffusion_pack.host.training.session._Session._validation"
    monkeypatch.setattr(session, lambda self, *_: lambda step: None)


def train(demo, **changes) -> tuple:
    """MODEL, LOSS_MAP and steps. demo: a `comfy_nodes.Demo`."""
    from mvdiffusion_pack.nodes.training import TrainCAA

    inputs = {
        "model": demo.model,
        "clip": demo.clip,
        "vae": demo.vae,
        "cameras": demo.cameras,
        "kind": "panorama",
        "steps": 3,
        "batch": 1,
        "learning_rate": 1e-3,
        "seed": 0,
        "dtype": "fp32",
        "run": "trial",
        "checkpointing": False,
        "latents": "cut anew",  # auto goes by the clock
    }
    lists = {"images": [picture(0), picture(1)], "captions": ["one", "two"]}
    lists |= {name: changes.pop(name) for name in ("images", "captions") if name in changes}
    lists = {name: value for name, value in lists.items() if value is not None}
    with torch.inference_mode():
        return TrainCAA.execute(**lists, **{name: [value] for name, value in (inputs | changes).items()}).args
