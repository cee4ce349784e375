"""The noise schedule is the host's, and the small sampler ends where the noise came from."""

from __future__ import annotations

import pytest
import torch

from mvdiffusion_pack.training.demo import diffusion


def test_noise_that_is_known_is_taken_away():
    random = torch.Generator().manual_seed(0)
    clean = torch.randn(3, 4, 8, 8, generator=random)

    def predict(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        share = diffusion.kept().float()[timesteps][:, None, None, None]
        return (latents - share.sqrt() * clean) / (1 - share).sqrt()

    assert torch.allclose(diffusion.ddim(predict, torch.randn(3, 4, 8, 8, generator=random), 10), clean, atol=1e-4)


def test_timesteps_are_spread():
    timesteps = diffusion.stratified(10, torch.Generator().manual_seed(0))
    assert (timesteps // 100).tolist() == list(range(10))


def test_weights_lie_between_bounds():
    ratio = diffusion.kept() / (1 - diffusion.kept())
    of_latents = diffusion.weights() * ratio
    assert of_latents.min() == pytest.approx(diffusion.LEAST_WEIGHT)
    assert of_latents.max() == pytest.approx(diffusion.MOST_WEIGHT)


@pytest.mark.host
def test_the_schedule_is_the_hosts(comfy):
    import comfy.model_sampling

    sigmas = comfy.model_sampling.ModelSamplingDiscrete().sigmas
    ours = ((1 - diffusion.kept()) / diffusion.kept()).sqrt()
    assert torch.allclose(sigmas.double(), ours, rtol=1e-5)
    latents, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    timesteps = torch.tensor([3, 800])
    share = 1 / (1 + sigmas[timesteps] ** 2)
    expected = (latents + noise * sigmas[timesteps].view(-1, 1, 1, 1)) * share.sqrt().view(-1, 1, 1, 1)
    assert torch.allclose(diffusion.noisy(latents, noise, timesteps), expected, atol=1e-5)
