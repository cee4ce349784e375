"""Live previews inside the real host: what its progress bar is given while the host's samplers run over cameras."""

from __future__ import annotations

import dataclasses

import comfy_nodes
import numpy as np
import pytest
import torch
from comfy_nodes import host_node

pytestmark = pytest.mark.host
VIEW = 8  # latent pixels of a view's side
WIDTH = 16  # of the panorama that is as fine as they are: 2 pi times the focal length at 120 degrees, made even


@pytest.fixture(scope="module")
def demo(comfy):
    return comfy_nodes.demo()


@pytest.fixture
def progress(comfy, monkeypatch):
    """What the host's progress bar hands to its hook: (step, preview or None) of all bars; previews are on."""
    import comfy.utils
    import latent_preview

    from mvdiffusion_pack.host import preview

    sent = []

    def hook(value, total, picture=None, **_):
        sent.append((value, picture))

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    monkeypatch.setattr(latent_preview.args, "preview_method", latent_preview.LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(preview, "SECONDS", 0.0)
    return sent


def pictures(progress: list) -> list[np.ndarray]:
    return [np.asarray(picture[1]) for _, picture in progress if picture is not None]


def custom_sampler(demo, **changes) -> tuple:
    """Samples and last prediction of the host's SamplerCustomAdvanced over the demo's cameras."""
    from comfy_extras import nodes_custom_sampler as custom

    from mvdiffusion_pack.nodes.sampling import ApplyCameras

    model, latent = ApplyCameras.execute(demo.model, demo.cameras, 1).args
    inputs = dict(
        noise=host_node(custom.RandomNoise, noise_seed=7),
        guider=host_node(custom.CFGGuider, model=model, cfg=3.0, positive=demo.positive, negative=demo.negative),
        sampler=host_node(custom.KSamplerSelect, sampler_name="ddim"),
        sigmas=host_node(custom.BasicScheduler, model=model, scheduler="ddim_uniform", steps=3, denoise=1.0),
        latent_image=latent,
    )
    node = custom.SamplerCustomAdvanced
    if hasattr(node, "define_schema"):
        return node.execute(**inputs).args
    return getattr(node(), node.FUNCTION)(**inputs)


def test_every_preview_has_the_shape_of_a_panorama(demo, progress):
    demo.sample(steps=3)
    assert [picture.shape for picture in pictures(progress)] == [(WIDTH // 2, WIDTH, 3)] * 3


def test_last_preview_is_the_hosts_preview_of_each_view_stitched(demo, progress):
    import latent_preview

    from mvdiffusion_pack.geometry.stitch import stitch

    _, denoised = custom_sampler(demo)
    latent_format = demo.model.model.latent_format
    previewer = latent_preview.get_previewer(demo.model.load_device, latent_format)
    latents = latent_format.process_in(denoised["samples"])
    views = [torch.from_numpy(np.array(previewer.decode_latent_to_preview(view[None]))) for view in latents]
    (equirect,), (coverage,) = stitch(torch.stack(views) / 255, demo.cameras, WIDTH)
    difference = np.abs(pictures(progress)[-1] / 255 - equirect.numpy())
    assert difference[coverage.numpy() == 1].mean() < 0.06  # it reads the nearest pixels, of latents
    assert pictures(progress)[-1][coverage.numpy() == 0].max(initial=0) == 0


def test_panoramas_of_a_batch_stand_below_each_other(demo, progress):
    demo.sample()
    alone = pictures(progress)[-1]
    progress.clear()
    demo.sample(panoramas=2)
    both = pictures(progress)[-1]
    assert both.shape == (WIDTH, WIDTH, 3)
    assert np.abs(both[: WIDTH // 2].astype(int) - alone).max() <= 1


def test_custom_samplers_show_it_and_keep_their_last_prediction(demo, progress, monkeypatch):
    import latent_preview

    shown = custom_sampler(demo)
    assert [picture.shape for picture in pictures(progress)] == [(WIDTH // 2, WIDTH, 3)] * 3
    monkeypatch.setattr(latent_preview.args, "preview_method", latent_preview.LatentPreviewMethod.NoPreviews)
    hidden = custom_sampler(demo)
    for with_preview, without in zip(shown, hidden, strict=True):
        assert torch.equal(with_preview["samples"], without["samples"])


def test_nothing_is_drawn_when_previews_are_off(demo, progress, monkeypatch):
    import latent_preview

    monkeypatch.setattr(latent_preview.args, "preview_method", latent_preview.LatentPreviewMethod.NoPreviews)
    demo.sample(steps=3)
    assert progress == [(1, None), (2, None), (3, None)]


def test_between_previews_progress_goes_on_and_the_last_step_is_drawn(demo, progress, monkeypatch):
    from mvdiffusion_pack.host import preview

    monkeypatch.setattr(preview, "SECONDS", 1e6)
    demo.sample(steps=5)
    assert [(step, picture is not None) for step, picture in progress] == [
        (1, True), (2, False), (3, False), (4, False), (5, True)
    ]  # fmt: skip


def test_model_without_cameras_shows_the_first_view_as_ever(demo, progress):
    import nodes

    latent = {"samples": torch.zeros(4, 4, VIEW, VIEW)}
    nodes.common_ksampler(demo.without_blocks, 7, 2, 3.0, "ddim", "ddim_uniform", demo.positive, demo.negative, latent)
    assert [picture.shape for picture in pictures(progress)] == [(VIEW, VIEW, 3)] * 2


def test_cameras_applied_twice_show_the_last(demo, progress):
    from mvdiffusion_pack.geometry.layouts import ring
    from mvdiffusion_pack.host.run import with_cameras

    demo.sample(with_cameras(demo.model, ring(4, 20.0, 64, 64)))
    assert [picture.shape for picture in pictures(progress)] == [(WIDTH // 2, WIDTH, 3)] * 2


def test_other_callbacks_than_the_hosts_are_left_alone(demo, progress):
    import comfy.sample

    from mvdiffusion_pack.host.run import with_cameras

    steps = []
    latents = torch.zeros(4, 4, VIEW, VIEW)
    comfy.sample.sample(
        with_cameras(demo.model, demo.cameras), latents, 2, 3.0, "ddim", "ddim_uniform", demo.positive, demo.negative,
        latents, seed=7, callback=lambda step, x0, x, total: steps.append((step, x0.shape[0], total)),
    )  # fmt: skip
    assert steps == [(0, 4, 2), (1, 4, 2)]
    assert progress == []


def test_the_hosts_previewer_is_its_own_again_after_a_failed_run(demo, progress):
    import latent_preview

    from mvdiffusion_pack.host.preview import with_live_preview

    callback = latent_preview.prepare_callback(demo.model, 2)

    def fails(guider, sigmas, extra_args, callback, *args):
        callback(0, torch.zeros(4, 4, VIEW, VIEW), None, 2)
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        with_live_preview(demo.cameras, fails, None, None, {}, callback)
    callback(0, torch.zeros(4, 4, VIEW, VIEW), None, 2)
    assert [picture.shape for picture in pictures(progress)] == [(WIDTH // 2, WIDTH, 3), (VIEW, VIEW, 3)]


def test_views_from_different_places_come_as_a_sheet(demo):
    from PIL import Image

    from mvdiffusion_pack.host.preview import LivePreview

    moved = demo.cameras.cam_to_world.clone()
    moved[:, 0, 3] = torch.arange(4)
    preview = LivePreview(dataclasses.replace(demo.cameras, cam_to_world=moved), None)
    sheet = np.asarray(preview.join([Image.new("RGB", (6, 3), (50 * view, 0, 9)) for view in range(3)]))
    np.testing.assert_array_equal(sheet[..., 0], np.repeat([0, 50, 100], 3)[:, None].repeat(6, axis=1))


def test_sheet_of_square_views_is_nearly_square(demo):
    from PIL import Image

    from mvdiffusion_pack.host.preview import LivePreview

    moved = demo.cameras.cam_to_world.clone()
    moved[:, 2, 3] = torch.arange(4)
    preview = LivePreview(dataclasses.replace(demo.cameras, cam_to_world=moved), None)
    sheet = np.asarray(preview.join([Image.new("RGB", (4, 4), (10 + view, 0, 0)) for view in range(5)]))
    assert sheet.shape == (12, 8, 3)
    np.testing.assert_array_equal(sheet[::4, ::4, 0], [[10, 11], [12, 13], [14, 0]])
