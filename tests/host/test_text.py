"""Prompts per view."""

from __future__ import annotations

import comfy_host
import comfy_nodes
import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def demo(comfy):
    return comfy_nodes.demo()


def encode(demo, text: str, prefix: str = "") -> list:
    from mvdiffusion_pack.nodes.text import MultiViewTextEncode

    return MultiViewTextEncode.execute(demo.clip, demo.cameras, text, prefix).args[0]


def alone(demo, text: str) -> torch.Tensor:
    return demo.clip.encode_from_tokens_scheduled(demo.clip.tokenize(text))[0][0]


def test_one_line_is_one_row_as_the_host_encodes_it(demo):
    ((tensor, options),) = encode(demo, "a room")
    assert torch.equal(tensor, alone(demo, "a room"))
    assert options["pooled_output"].shape[0] == 1


def test_line_per_view_in_order_without_empty_lines(demo):
    ((tensor, options),) = encode(demo, "sky\n\n a house \r\nsea\nsky\n")
    assert tensor.shape[0] == options["pooled_output"].shape[0] == 4
    for row, text in zip(tensor, ("sky", "a house", "sea", "sky"), strict=True):
        torch.testing.assert_close(row, alone(demo, text)[0])


def test_prefix_stands_before_every_line(demo):
    ((tensor, _),) = encode(demo, "sky\nsea\nsky\nsea", "This is one view of a scene. ")
    torch.testing.assert_close(tensor[1], alone(demo, "This is one view of a scene. sea")[0])


def test_no_text_is_one_empty_prompt(demo):
    ((tensor, _),) = encode(demo, " \n")
    assert torch.equal(tensor, alone(demo, ""))


def test_lines_of_several_panoramas(demo):
    assert encode(demo, "\n".join("abcdefgh"))[0][0].shape[0] == 8


@pytest.mark.parametrize("lines", [2, 3, 5, 7])
def test_other_numbers_of_lines_are_refused(demo, lines):
    with pytest.raises(ValueError, match=f"Multi-View Text Encode: {lines} lines of text for 4 cameras"):
        encode(demo, "\n".join("x" * lines))


def test_rows_of_unequal_token_length_attend_as_they_would_alone(demo):
    long = "a very long prompt " * 30
    ((tensor, _),) = encode(demo, f"short\n{long}\nshort\nshort")
    assert tensor.shape[1] == alone(demo, long).shape[1] > alone(demo, "short").shape[1]
    mixed = demo.sample(demo.without_blocks, positive=[[tensor, {}]])
    short = demo.sample(demo.without_blocks, positive=[[alone(demo, "short"), {}]])
    torch.testing.assert_close(mixed[0], short[0], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(mixed[1], short[1], rtol=1e-2, atol=1e-2)


def test_pooled_outputs_of_sdxl_are_stacked(comfy):
    """SDXL's text model is too large to build here: its conditioning format is what counts."""
    from mvdiffusion_pack.host.text import _stack

    rows = [
        [torch.full((1, 77, 8), float(view)), {"pooled_output": torch.full((1, 6), float(view))}] for view in (1, 2)
    ]
    tensor, options = _stack(tuple(rows))
    assert tensor[:, 0, 0].tolist() == [1, 2]
    assert options["pooled_output"][:, 0].tolist() == [1, 2]


def test_missing_clip_is_named(demo):
    from mvdiffusion_pack.nodes.text import MultiViewTextEncode

    with pytest.raises(ValueError, match="clip is empty"):
        MultiViewTextEncode.execute(None, demo.cameras, "a", "")


class LanguageModel:
    """A text encoder that makes as many tokens as a prompt has words, as those of Qwen-Image and others do."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()

    def encode_from_tokens_scheduled(self, words: list[str]) -> list:
        return [
            [torch.ones((1, 20 + len(words), 8)) * len(words), {"pooled_output": None, "further": self.further(words)}]
        ]

    def further(self, words: list[str]) -> torch.Tensor:
        return torch.full((1, 3), float(len(words)))


LINES = "\n".join("w " * words for words in (3, 9, 11, 17))


def test_tokens_of_language_models_are_filled_up_and_masked(demo):
    """Repeated to a common length, these would be 765,049 tokens."""
    from mvdiffusion_pack.nodes.text import MultiViewTextEncode

    ((tensor, options),) = MultiViewTextEncode.execute(LanguageModel(), demo.cameras, LINES, "").args[0]
    assert tensor.shape == (4, 37, 8)
    assert not options["attention_mask"].is_floating_point()
    for row, mask, words in zip(tensor, options["attention_mask"], (3, 9, 11, 17), strict=True):
        assert mask.tolist() == [1] * (20 + words) + [0] * (17 - words)
        assert torch.equal(row, mask[:, None] * torch.full((37, 8), float(words)))


def test_views_of_qwen_image_get_what_each_line_gives_alone(demo, request):
    if comfy_host.host_version(request.config.host) in ("0.3.64", "0.8.0"):
        pytest.skip("its Qwen-Image attends to masked text, too")
    import nodes
    import small_bases

    from mvdiffusion_pack.nodes.sampling import ApplyCameras
    from mvdiffusion_pack.nodes.text import MultiViewTextEncode

    class Random(LanguageModel):
        def encode_from_tokens_scheduled(self, words: list[str]) -> list:
            return [[torch.randn((1, 20 + len(words), 64), generator=torch.Generator().manual_seed(len(words))), {}]]

    model, latent = ApplyCameras.execute(small_bases.transformer("QwenImage"), demo.cameras, 1).args

    def sampled(text: str) -> torch.Tensor:
        (conditioning,) = MultiViewTextEncode.execute(Random(), demo.cameras, text, "").args
        settings = (7, 2, 1.0, "euler", "simple", conditioning, conditioning, latent)
        return nodes.common_ksampler(model, *settings)[0]["samples"]

    together = sampled(LINES)
    for view, line in enumerate(LINES.splitlines()):
        torch.testing.assert_close(together[view], sampled(line)[view], rtol=1e-4, atol=1e-4)


def test_all_that_encoders_give_is_that_of_its_line(demo):
    from mvdiffusion_pack.nodes.text import MultiViewTextEncode

    ((_, options),) = MultiViewTextEncode.execute(LanguageModel(), demo.cameras, LINES, "").args[0]
    assert options["further"][:, 0].tolist() == [3, 9, 11, 17]


def test_masks_of_encoders_stay(comfy):
    from mvdiffusion_pack.host.text import _stack

    masks = torch.tensor([[1, 1, 0]]), torch.tensor([[1, 1, 1]])
    _, options = _stack(tuple([torch.zeros((1, 3, 8)), {"attention_mask": mask}] for mask in masks))
    assert torch.equal(options["attention_mask"], torch.cat(masks))


def test_what_cannot_be_stacked_is_named(demo, monkeypatch):
    from mvdiffusion_pack.nodes.text import MultiViewTextEncode

    monkeypatch.setattr(LanguageModel, "further", lambda self, words: torch.zeros((1, len(words))))
    with pytest.raises(ValueError, match=r"Multi-View Text Encode: .* 'further' in another size .* 1 line for all"):
        MultiViewTextEncode.execute(LanguageModel(), demo.cameras, LINES, "")
