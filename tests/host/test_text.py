"""Prompts per view."""

from __future__ import annotations

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
