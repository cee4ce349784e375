"""Live previews inside the real host: what its progress bar is given while the host's samplers run over cameras."""

from __future__ import annotations

import dataclasses

import comfy_nodes
import numpy as np
import pytest
import torch
from comfy_nodes import host_node
from PIL import Image

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
    # 0.33 leaves out steps that come within a tenth of a second of the one before.
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0.0, raising=False)
    monkeypatch.setattr(latent_preview.args, "preview_method", latent_preview.LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(preview, "SECONDS", 0.0)
    monkeypatch.setattr(preview, "SHARE", 1e9)  # what a preview costs depends on the machine
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

    from mvdiffusion_pack.geometry.panorama.stitch import stitch

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


@pytest.mark.parametrize("sampler_name", ["euler_ancestral", "dpm_fast", "dpm_adaptive"])
def test_last_step_is_drawn_whatever_the_sampler_says_of_steps(demo, progress, monkeypatch, sampler_name):
    from mvdiffusion_pack.geometry.layouts import ring
    from mvdiffusion_pack.host import preview

    monkeypatch.setattr(preview, "SECONDS", 1e6)
    demo.sample(steps=5, sampler_name=sampler_name, scheduler="normal", cameras=ring(1, 90, 64, 64), cfg=1.0)
    assert progress[0][1] is not None and progress[-1][1] is not None
    assert len(pictures(progress)) <= 3  # dpm_adaptive goes on after what it calls the last


def test_costly_joining_waits_until_it_is_three_percent(demo, progress, monkeypatch):
    from mvdiffusion_pack.host import preview

    monkeypatch.setattr(preview, "SHARE", 1e-9)
    demo.sample(steps=4)
    assert [picture is not None for _, picture in progress] == [True, False, False, True]


@pytest.mark.parametrize("largest", [1, 40, 512])
def test_taesd_previews_are_decoded_view_by_view_and_shrunk(demo, progress, monkeypatch, tmp_path, largest):
    import folder_paths
    import latent_preview
    from comfy.taesd.taesd import TAESD
    from safetensors.torch import save_file

    torch.manual_seed(5)
    name = demo.model.model.latent_format.taesd_decoder_name
    shapes = TAESD(latent_channels=4).taesd_decoder.state_dict()
    save_file({key: 0.1 * torch.randn(like.shape) for key, like in shapes.items()}, tmp_path / f"{name}.safetensors")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "vae_approx", ([str(tmp_path)], {".safetensors"}))
    folder_paths.filename_list_cache.pop("vae_approx", None)
    monkeypatch.setattr(latent_preview.args, "preview_method", latent_preview.LatentPreviewMethod.TAESD)
    monkeypatch.setattr(latent_preview, "MAX_PREVIEW_RESOLUTION", largest)
    demo.sample()
    native = 118  # 2 pi times the focal length of views 64 pixels wide, made even
    width = min(native, max(2, largest))
    assert [picture.shape for picture in pictures(progress)] == [(width // 2, width, 3)] * 2
    assert largest == 1 or pictures(progress)[-1].std() > 1


def test_model_without_cameras_shows_the_first_view_as_ever(demo, progress):
    import nodes

    latent = {"samples": torch.zeros(4, 4, VIEW, VIEW)}
    nodes.common_ksampler(demo.without_blocks, 7, 2, 3.0, "ddim", "ddim_uniform", demo.positive, demo.negative, latent)
    assert [picture.shape for picture in pictures(progress)] == [(VIEW, VIEW, 3)] * 2


def test_cameras_applied_twice_show_the_last(demo, progress):
    from mvdiffusion_pack.geometry.layouts import ring
    from mvdiffusion_pack.host.begin import with_cameras

    demo.sample(with_cameras(demo.model, ring(4, 20.0, 64, 64)))
    assert [picture.shape for picture in pictures(progress)] == [(WIDTH // 2, WIDTH, 3)] * 2


def test_other_callbacks_than_the_hosts_are_left_alone(demo, progress):
    import comfy.sample

    from mvdiffusion_pack.host.begin import with_cameras

    steps = []
    latents = torch.zeros(4, 4, VIEW, VIEW)
    comfy.sample.sample(
        with_cameras(demo.model, demo.cameras), latents, 2, 3.0, "ddim", "ddim_uniform", demo.positive, demo.negative,
        latents, seed=7, callback=lambda step, x0, x, total: steps.append((step, x0.shape[0], total)),
    )  # fmt: skip
    assert steps == [(0, 4, 2), (1, 4, 2)]
    assert progress == []


def test_callbacks_that_others_wrap_around_the_hosts_are_found(demo, progress, monkeypatch):
    import latent_preview

    prepare = latent_preview.prepare_callback

    def wrapped(*args):
        inner = prepare(*args)
        return lambda step, x0, x, total: inner(step, x0, x, total)

    monkeypatch.setattr(latent_preview, "prepare_callback", wrapped)
    demo.sample(steps=3)
    assert [picture.shape for picture in pictures(progress)] == [(WIDTH // 2, WIDTH, 3)] * 3


def test_previewers_of_other_packs_are_left_alone(demo, progress, monkeypatch):
    import latent_preview

    class Own(latent_preview.Latent2RGBPreviewer):
        def decode_latent_to_preview_image(self, preview_format, x0):
            return preview_format, Image.new("RGB", (3, 2)), 512

    factors = demo.model.model.latent_format.latent_rgb_factors
    monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: Own(factors))
    demo.sample()
    assert [picture.shape for picture in pictures(progress)] == [(2, 3, 3)] * 2


def test_callbacks_that_ask_for_one_view_get_it(demo, progress):
    import latent_preview

    from mvdiffusion_pack.host.preview import with_live_preview

    callback = latent_preview.prepare_callback(demo.model, 1)
    asks = lambda guider, sigmas, extra_args, callback: callback(0, torch.zeros(1, 4, VIEW, VIEW), None, 1)  # noqa: E731
    with_live_preview(demo.cameras, asks, None, None, {}, callback)
    assert [picture.shape for picture in pictures(progress)] == [(VIEW, VIEW, 3)]


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


@pytest.fixture
def apart(demo):
    """The demo's cameras, each in another place."""
    moved = demo.cameras.cam_to_world.clone()
    moved[:, 0, 3] = torch.arange(4)
    return dataclasses.replace(demo.cameras, cam_to_world=moved)


def sheet(cameras, size: tuple[int, int], reds: list[int]) -> np.ndarray:
    from mvdiffusion_pack.host.preview import view_joiner

    return np.asarray(view_joiner(cameras, size)([Image.new("RGB", size, (red, 0, 9)) for red in reds]))


def test_views_from_different_places_come_as_a_nearly_square_sheet(apart):
    picture = sheet(apart, (4, 4), [10, 11, 12, 13])
    np.testing.assert_array_equal(picture[..., 0], np.kron([[10, 11], [12, 13]], np.ones((4, 4))))


def test_sheet_of_wide_views_has_fewer_columns(apart):
    assert sheet(apart, (8, 2), [10, 11, 12, 13]).shape == (8, 8, 3)


def test_sheet_of_large_views_is_no_larger_than_previews_are(apart):
    assert sheet(apart, (512, 512), [0] * 4).shape == (512, 512, 3)
