"""A pack with one node, loaded into a real host by the tests of the scripts."""

from __future__ import annotations

from pathlib import Path

PACK = """
import time
from comfy_api.latest import ComfyExtension, io
import comfy.model_management
import comfy.utils

class Steps(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="MVDiffusionKSampler", display_name="Steps", category="test", is_output_node=True,
            inputs=[io.Image.Input("positive"), io.Int.Input("seed"), io.Int.Input("steps", min=0)],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, positive, seed, steps):
        if steps == 0:
            raise ValueError("steps is 0")
        bar = comfy.utils.ProgressBar(steps)
        for _ in range(steps):
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.2)
            bar.update(1)
        return io.NodeOutput(positive)

class Extension(ComfyExtension):
    async def get_node_list(self):
        return [Steps]

async def comfy_entrypoint():
    return Extension()
"""


def graph(width: int = 64, steps: int = 2) -> dict:
    """A graph of the host's nodes and the throw-away pack's, which ends in one saved image, half as high as wide."""
    image = {"width": width, "height": width // 2, "batch_size": 1, "color": 255}
    return {
        "1": {"class_type": "EmptyImage", "inputs": image},
        "2": {"class_type": "MVDiffusionKSampler", "inputs": {"positive": ["1", 0], "seed": 0, "steps": steps}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "image"}},
    }


def write_pack(folder: Path, source: str = PACK) -> Path:
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(source, encoding="utf-8")
    return folder
