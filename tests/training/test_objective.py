"""The loss: its target at each noise level, which views share what, and what is learnt from it."""

from __future__ import annotations

import pytest
import stand_in
import torch

from mvdiffusion_pack.geometry.layouts import ring
from mvdiffusion_pack.training.objective import Noised, Objective, Rows, drawn
from mvdiffusion_pack.training.samples import Sample, Text
from mvdiffusion_pack.training.settings import Settings

CAMERAS = ring(4, 120.0, 64, 64)


def sample(name: str = "a", seed: int = 0, cameras=CAMERAS) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(cameras.views, 4, 8, 8, generator=generator)
    tokens = torch.randn(cameras.views, stand_in.TOKENS, stand_in.CONTEXT, generator=generator)
    return Sample(name, cameras, latents, Text(tokens))


def noised(one: Sample, level: int = 20, seed: int = 5) -> Noised:
    return Noised(one, level, torch.randn(one.latents.shape, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_what_should_be_predicted_gives_back_latents_and_noise(prediction: str):
    schedule = stand_in.schedule(prediction)
    latents, noise = (torch.randn(3, 4, 2, 2, dtype=torch.float64) for _ in range(2))
    levels = torch.tensor([0, 20, 49])
    fed, target = schedule.noised(latents, noise, levels), schedule.target(latents, noise, levels)
    for given, back in zip((latents, noise), schedule.denoised(fed, target, levels), strict=True):
        torch.testing.assert_close(back, given, rtol=1e-9, atol=1e-9)


def test_what_the_unet_is_fed_has_unit_variance_at_every_level():
    schedule = stand_in.schedule()
    signal, spread = schedule._shares(torch.arange(50), torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(signal.square() + spread.square(), torch.ones_like(signal))


def test_loss_is_the_squared_error_of_the_unets_own_prediction():
    schedule, denoiser, at = stand_in.schedule(), stand_in.Denoiser(), noised(sample())
    objective = Objective(stand_in.blocks(zero=True).module, denoiser, schedule)
    levels = torch.full((4,), at.level)
    fed = schedule.noised(at.sample.latents, at.noise, levels)
    with torch.no_grad():
        alone = denoiser(fed, levels, at.sample.text.tokens, {}, None)  # zero blocks change nothing
        loss = objective([at])
    torch.testing.assert_close(loss, (alone - at.noise).square().mean()[None])


def test_losses_of_a_batch_are_those_of_its_samples():
    objective = Objective(stand_in.blocks().module, stand_in.Denoiser(), stand_in.schedule())
    batch = [noised(sample("a", 1), 3, 1), noised(sample("b", 2), 40, 2)]
    together = objective(batch)
    apart = torch.cat([objective([at]) for at in batch])
    torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("zero", [True, False])
def test_views_listen_to_each_other_through_their_blocks(zero: bool):
    objective = Objective(stand_in.blocks(zero=zero).module, stand_in.Denoiser(), stand_in.schedule())
    one, other = sample(), sample()
    other.latents[2] += 1.0
    levels = torch.full((4,), 10)
    rows = [objective.predict(at.latents, levels, rows_of(at)) for at in (one, other)]
    changed = (rows[0] - rows[1]).flatten(1).abs().amax(1) > 1e-6
    assert changed.tolist() == ([False, False, True, False] if zero else [True, True, True, True])


def rows_of(at: Sample) -> Rows:
    return Rows.of([at], torch.device("cpu"))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_weight_of_the_blocks_learns_and_none_of_the_unet(checkpointing: bool):
    blocks, denoiser = stand_in.blocks(), stand_in.Denoiser()
    objective = Objective(blocks.module, denoiser, stand_in.schedule(), checkpointing)
    objective([noised(sample())]).sum().backward()
    without = [name for name, weight in blocks.module.named_parameters() if not weight.grad.abs().max() > 0]
    assert without == []
    assert all(weight.grad is None for weight in denoiser.unet.parameters())


def test_gradients_with_and_without_checkpointing_are_the_same():
    gradients = []
    for checkpointing in (False, True):
        blocks = stand_in.blocks()
        Objective(blocks.module, stand_in.Denoiser(), stand_in.schedule(), checkpointing)([noised(sample())]).backward()
        gradients.append([weight.grad for weight in blocks.module.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_learns_what_float32_learns(dtype: torch.dtype):
    gradients = []
    for at in (torch.float32, dtype):
        blocks = stand_in.blocks()
        objective = Objective(blocks.module, stand_in.Denoiser(dtype=at), stand_in.schedule())
        objective([noised(sample())]).backward()
        assert {weight.grad.dtype for weight in blocks.module.parameters()} == {torch.float32}
        gradients.append(torch.cat([weight.grad.flatten() for weight in blocks.module.parameters()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_finite_differences_in_double_precision():
    blocks, denoiser = stand_in.blocks(), stand_in.Denoiser(dtype=torch.float64)
    denoiser.__class__ = type("Double", (stand_in.Denoiser,), {"__call__": double_call})
    blocks.module.double()
    at = noised(sample())
    objective = Objective(blocks.module, denoiser, stand_in.schedule())
    objective([at]).backward()
    generator = torch.Generator().manual_seed(3)
    for name, weight in blocks.module.named_parameters():
        direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        expected = difference(objective, at, weight, direction)
        torch.testing.assert_close((weight.grad * direction).sum(), expected, rtol=1e-6, atol=1e-9, msg=name)


def double_call(self, x, levels, tokens, further, run):
    return self.unet(x.double(), levels, tokens, run)


def difference(objective, at, weight, direction, step: float = 1e-5):
    """The central difference of the loss along a direction."""
    with torch.no_grad():
        losses = []
        for sign in (1, -1):
            weight += sign * step * direction
            losses.append(objective([at]).sum())
            weight -= sign * step * direction
    return (losses[0] - losses[1]) / (2 * step)


class OneSample:
    """A source of one sample."""

    alike = True

    def __init__(self) -> None:
        self.empty = stand_in.Codec().text("")

    def sample(self, number, generator):
        return sample(str(number), number)


def test_captions_are_left_out_as_often_as_asked_for_all_views_of_a_panorama_together():
    source, settings = OneSample(), Settings(dropout=0.25)
    draws = [drawn(source, number, settings, 50) for number in range(400)]
    empty = [torch.equal(at.sample.text.tokens, source.empty.tokens.repeat(4, 1, 1)) for at in draws]
    kept = [torch.equal(at.sample.text.tokens, sample(at.sample.name, int(at.sample.name)).text.tokens) for at in draws]
    assert all(a != b for a, b in zip(empty, kept, strict=True))
    assert 70 <= sum(empty) <= 130
    assert {at.level for at in draws} == set(range(50))


def test_what_is_drawn_for_a_sample_depends_on_seed_and_number_alone():
    source = OneSample()
    first = [drawn(source, number, Settings(seed=3), 50) for number in (0, 1, 2)]
    again = drawn(source, 2, Settings(seed=3), 50)
    assert torch.equal(first[2].noise, again.noise) and first[2].level == again.level
    assert not torch.equal(first[1].noise, again.noise)
    assert not torch.equal(drawn(source, 2, Settings(seed=4), 50).noise, again.noise)
