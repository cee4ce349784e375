"""Depth Cameras in the host: what a sequence becomes, which names it takes, and when it reads anew."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import write_frames_25k, write_nerfstudio, write_padded, write_sens, write_tum
from PIL import Image
from rooms import UNIT, described, pose, seen, walk, write_scannet

pytestmark = pytest.mark.host

SIZE = {"width": 128, "height": 64}


@pytest.fixture
def folders(comfy, tmp_path, monkeypatch) -> Path:
    """A folder with the host's folders input and output, empty."""
    import folder_paths

    for name in ("input", "output"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    return tmp_path


@pytest.fixture
def room(folders) -> Path:
    """The sequence 'room' of eight frames in the input folder."""
    return write_scannet(folders / "input" / "room", walk(8, 96, 72))


@pytest.fixture
def node(folders):
    from mvdiffusion_pack.nodes.sequence import DepthCameras

    return DepthCameras


def run(node, **changes) -> dict:
    """The node's outputs by name."""
    inputs = dict(sequence="room", start=0, stride=1, max_frames=0, **SIZE, min_overlap=0.3, keyframe_overlap=0.6)
    outputs = node.execute(**(inputs | changes)).args
    return dict(zip([output.display_name for output in node.define_schema().outputs], outputs, strict=True))


def options(node) -> list[str]:
    return node.define_schema().inputs[0].options


def warnings(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.name == "MVDiffusion"]


# ---- What it gives


def test_cameras_and_images_are_those_of_the_folder(node, room):
    from mvdiffusion_pack.geometry.sequence.frames import posed_views
    from mvdiffusion_pack.geometry.sequence.reading import read_frames

    found = run(node)
    cameras, images, _ = posed_views(read_frames(room), 128, 64, 0.3, 0.6)
    assert torch.equal(found["cameras"].depth, cameras.depth)
    assert torch.equal(found["cameras"].cam_to_world, cameras.cam_to_world)
    assert torch.equal(found["images"], images)
    assert found["cameras"].names == tuple("01234567")


def test_key_frames_are_parts_of_all_frames(node, room):
    found = run(node)
    keyframes = list(found["cameras"].keyframes)
    assert 2 < len(keyframes) < 8
    assert found["keyframe_cameras"]._among is found["cameras"]._among  # overlaps are known to both
    assert torch.equal(found["keyframe_cameras"].depth, found["cameras"].depth[keyframes])
    assert torch.equal(found["keyframe_images"], found["images"][keyframes])


def test_prompts_are_a_line_per_frame(node, room):
    (room / "prompt").mkdir()
    for name, text in (("0", "a bed,\n  white"), ("7", "a door")):
        (room / "prompt" / f"{name}.txt").write_text(text, encoding="utf-8")
    found = run(node)
    lines = ["a bed, white"] * 4 + ["a door"] * 4
    assert found["prompts"].split("\n") == lines
    assert found["keyframe_prompts"].split("\n") == [lines[view] for view in found["cameras"].keyframes]


def test_start_stride_and_max_frames_are_those_of_the_reader(node, room):
    assert run(node, start=1, stride=2, max_frames=3)["cameras"].names == ("1", "3", "5")


@pytest.mark.parametrize("size", [(192, 192), (320, 192), (64, 128)])
def test_other_sizes_work(node, room, size):
    width, height = size
    found = run(node, width=width, height=height)
    assert found["images"].shape == (8, height, width, 3)
    assert (found["cameras"].width, found["cameras"].height) == size


def test_skipped_frames_are_named_in_one_line_of_the_log(node, room, caplog):
    for name in ("3", "5"):
        (room / "pose" / f"{name}.txt").unlink()
    Image.fromarray(np.zeros((72, 96), np.uint16)).save(room / "depth" / "6.png")
    with caplog.at_level(logging.WARNING, logger="MVDiffusion"):
        run(node)
    assert warnings(caplog) == ["Depth Cameras: skipped frames 3, 5 (no pose), frame 6 (depth all zero)"]


def test_key_frames_that_overlap_little_are_named_in_one_line_of_the_log(node, folders, caplog):
    frames = [seen(str(5 + i), pose(yaw), 64, 64) for i, yaw in enumerate((0, 20, 80, 140))]
    write_scannet(folders / "input" / "room", frames)
    with caplog.at_level(logging.WARNING, logger="MVDiffusion"):
        run(node, keyframe_overlap=1.0)
    (warning,) = warnings(caplog)
    assert "overlaps key frames 7, 8 by more than min_overlap (0.3)" in warning


def test_nothing_is_logged_of_a_good_sequence(node, room, caplog):
    with caplog.at_level(logging.WARNING, logger="MVDiffusion"):
        run(node)
    assert warnings(caplog) == []


def test_folder_of_save_posed_views_is_read_where_it_lies(node, room):
    from mvdiffusion_pack.nodes.sequence import SavePosedViews

    first = run(node)
    SavePosedViews.execute(first["images"], first["cameras"], "views", "png")
    again = run(node, sequence="views [output]")
    for part in ("depth", "cam_to_world", "intrinsics"):
        assert torch.equal(getattr(again["cameras"], part), getattr(first["cameras"], part))
    assert (again["images"] - first["images"]).abs().max() <= 0.5 / 255 + 1e-6


# ---- Names


def test_list_holds_demo_sequences_and_none(node, room, folders):
    shutil.copytree(room, folders / "input" / "scans" / "kitchen")
    shutil.copytree(room, folders / "output" / "posed_views")
    (folders / "input" / "pictures" / "depth").mkdir(parents=True)
    (folders / "input" / "photo.png").write_bytes(b"")
    assert options(node) == ["demo (in the pack)", "room", "scans/kitchen", "posed_views [output]", "none"]


@pytest.mark.parametrize("write", [write_frames_25k, write_padded, write_sens, write_tum, write_nerfstudio])
def test_sequences_of_other_layouts_are_listed_and_read(node, folders, write):
    write(folders / "input" / "scans" / "kitchen", walk(3, 96, 72))
    assert options(node) == ["demo (in the pack)", "scans/kitchen", "none"]
    found = run(node, sequence="scans/kitchen")["cameras"]
    expected = run(node, sequence="none", geometry=described(walk(3, 96, 72)), depth_scale=UNIT)["cameras"]
    torch.testing.assert_close(found.cam_to_world, expected.cam_to_world, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.depth, expected.depth, rtol=0, atol=1e-3)


def test_depth_scale_is_for_folders_too(node, room):
    """Five metres are one: the rooms of a factor that is not the layout's."""
    own, scaled = (run(node, depth_scale=scale)["cameras"].depth for scale in (0.0, 0.0002))
    torch.testing.assert_close(scaled, own / 5, rtol=1e-6, atol=0)


def test_depth_scale_may_be_as_small_as_the_units_of_datasets(node):
    """The front end rounds numbers to the step: 1 / 6553.5 m must not become another unit."""
    (scale,) = [part for part in node.define_schema().inputs if part.id == "depth_scale"]
    assert abs(round(1 / 6553.5 / scale.step) * scale.step * 6553.5 - 1) < 0.005


def test_folders_that_cannot_be_looked_into_are_not_listed(node, room, folders, monkeypatch):
    scan = os.scandir

    def refused(path):
        if str(path).endswith("locked"):
            raise PermissionError(path)
        return scan(path)

    (folders / "input" / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", refused)
    assert options(node) == ["demo (in the pack)", "room", "none"]


def test_listed_names_are_read(node, room, folders):
    shutil.copytree(room, folders / "input" / "scans" / "kitchen")
    assert run(node, sequence="scans/kitchen")["cameras"].views == 8


@pytest.mark.parametrize(
    "name", ["house", "../elsewhere", "room/../../elsewhere", "", ".", "elsewhere [output]", "../elsewhere [output]"]
)
def test_names_that_are_no_folder_in_the_hosts_are_refused(node, room, folders, name):
    write_scannet(folders / "elsewhere", walk(2))
    match = f"Depth Cameras: there is no sequence '{name.replace('[', chr(92) + '[')}': put a folder"
    with pytest.raises(ValueError, match=match):
        run(node, sequence=name)
    assert node.validate_inputs(sequence=name, **SIZE).startswith(f"Depth Cameras: there is no sequence '{name}'")


def test_whole_path_is_refused(node, folders):
    elsewhere = write_scannet(folders / "elsewhere", walk(2))
    with pytest.raises(ValueError, match="there is no sequence"):
        run(node, sequence=str(elsewhere))


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_link_out_of_the_input_folder_is_neither_listed_nor_read(node, folders):
    write_scannet(folders / "elsewhere", walk(2))
    os.symlink(folders / "elsewhere", folders / "input" / "link")
    assert "link" not in options(node)
    with pytest.raises(ValueError, match="there is no sequence 'link'"):
        run(node, sequence="link")


# ---- Checks before a run


def test_nothing_to_read_from_is_said(node):
    fault = "Depth Cameras: sequence is none, and nothing is connected to geometry"
    assert node.validate_inputs(sequence="none", **SIZE).startswith(fault)
    with pytest.raises(ValueError, match=fault):
        run(node, sequence="none")


def test_none_is_valid_with_geometry_linked(node):
    assert node.validate_inputs(sequence="none", **SIZE, geometry=None) is True


def test_two_sources_are_refused(node, room):
    said = node.validate_inputs(sequence="room", **SIZE, geometry=None)
    assert said.startswith("Depth Cameras: sequence is 'room' and geometry is connected too: set sequence to none")


@pytest.mark.parametrize(("width", "height"), [(200, 192), (256, 100), (0, 64), (-64, 64)])
def test_sizes_that_are_no_multiples_of_64_are_refused(node, room, width, height):
    said = f"Depth Cameras: width and height must be multiples of 64, not {width} x {height}."
    assert node.validate_inputs(sequence="room", width=width, height=height) == said
    with pytest.raises(ValueError, match=said):
        run(node, width=width, height=height)


def test_linked_inputs_are_not_known_yet(node):
    assert node.validate_inputs(sequence=None, width=None, height=None) is True


def validated(node, monkeypatch, **changes) -> tuple[bool, list[dict]]:
    """What the host says of a prompt with the node alone: whether it is valid, and errors."""
    import execution
    import nodes

    monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, "MVDiffusionDepthCameras", node)
    inputs = dict(sequence="room", start=0, stride=1, max_frames=0, **SIZE, min_overlap=0.3, keyframe_overlap=0.6)
    prompt = {"1": {"class_type": "MVDiffusionDepthCameras", "inputs": inputs | changes}}
    valid, errors, _ = asyncio.run(execution.validate_inputs("run", prompt, "1", {}))
    return valid, errors


def test_host_takes_a_good_prompt(node, room, monkeypatch):
    assert validated(node, monkeypatch) == (True, [])


def test_host_says_what_the_node_says(node, room, monkeypatch):
    valid, errors = validated(node, monkeypatch, sequence="house")
    assert not valid and "there is no sequence 'house'" in errors[0]["details"]


def test_host_refuses_numbers_out_of_range(node, room, monkeypatch):
    valid, errors = validated(node, monkeypatch, stride=0)
    assert not valid and errors[0]["details"] == "stride"


# ---- Depth Anything 3 in place of a folder


def test_geometry_of_the_same_room_gives_the_same_cameras(node, room):
    folder = run(node, stride=1)
    geometry = run(node, sequence="none", geometry=described(walk(8, 96, 72)), depth_scale=UNIT)
    expected, cameras = folder["cameras"], geometry["cameras"]
    assert cameras.keyframes == expected.keyframes
    torch.testing.assert_close(cameras.intrinsics, expected.intrinsics, rtol=1e-5, atol=0)
    torch.testing.assert_close(cameras.cam_to_world, expected.cam_to_world, rtol=0, atol=1e-5)
    torch.testing.assert_close(cameras.depth, expected.depth, rtol=0, atol=1e-3)
    torch.testing.assert_close(cameras.overlaps, expected.overlaps, rtol=0, atol=0.01)
    assert geometry["depth_preview"].shape == folder["depth_preview"].shape
    assert not geometry["prompts"].strip()


def test_geometry_has_no_scale_of_its_own(node):
    depth = run(node, sequence="none", geometry=described(walk(8, 96, 72)), width=256, height=192)["cameras"].depth
    assert depth.median().item() == pytest.approx(2, rel=0.05)


def test_depth_that_is_not_certain_enough_is_no_reading(node):
    geometry = described(walk(8, 96, 72))
    geometry["confidence"][2, :36] = 1.2  # 0.17 of 1
    lost, kept = (
        run(node, sequence="none", geometry=geometry, min_confidence=least)["cameras"].depth for least in (0.5, 0.1)
    )
    assert not lost[2, :30].any() and lost[2, 34:].all() and kept.all()


def test_geometry_without_poses_is_refused_with_how_to_get_them(node):
    geometry = described(walk(2, 96, 72)) | {"mode": "mono"}
    with pytest.raises(ValueError, match=r"without camera poses: .* set its mode to multiview"):
        run(node, sequence="none", geometry=geometry)


# ---- When it runs again


def test_fingerprint_stays_while_nothing_changes(node, room):
    assert node.fingerprint_inputs(sequence="room", start=0) == node.fingerprint_inputs(sequence="room", start=0)


@pytest.mark.parametrize("part", ["color", "depth", "pose", "intrinsic"])
def test_fingerprint_changes_with_each_file(node, room, part):
    before = node.fingerprint_inputs(sequence="room")
    path = next((room / part).iterdir())
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))
    changed = node.fingerprint_inputs(sequence="room")
    path.unlink()
    assert len({before, changed, node.fingerprint_inputs(sequence="room")}) == 3


def test_fingerprint_changes_with_a_new_prompt(node, room):
    before = node.fingerprint_inputs(sequence="room")
    (room / "prompt").mkdir()
    (room / "prompt" / "0.txt").write_text("a bed", encoding="utf-8")
    assert node.fingerprint_inputs(sequence="room") != before


def test_fingerprint_of_none_stays(node):
    assert node.fingerprint_inputs(sequence="none") == node.fingerprint_inputs(sequence="none")


def test_fingerprint_of_a_link_changes_with_any_sequence(node, room):
    """Its name is not known yet. NaN would be what the host writes into pictures, and no JSON."""
    before = node.fingerprint_inputs(sequence=None)
    assert node.fingerprint_inputs(sequence=None) == before
    next((room / "pose").iterdir()).unlink()
    assert node.fingerprint_inputs(sequence=None) != before


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
@pytest.mark.parametrize("part", ["color", "depth", "pose", "intrinsic"])
def test_link_that_leads_nowhere_counts_as_absent(node, room, part, folders):
    path = next((room / part).iterdir())
    path.unlink()
    os.symlink(folders / "nothing", path)
    before = node.fingerprint_inputs(sequence="room")
    assert node.fingerprint_inputs(sequence="room") == before
    (folders / "nothing").write_bytes(b"something")
    assert node.fingerprint_inputs(sequence="room") != before


@pytest.mark.parametrize("name", ["house", "../elsewhere", "", "\0", "house [output]"])
def test_fingerprint_of_what_is_no_sequence_is_given(node, name):
    assert node.fingerprint_inputs(sequence=name) == node.fingerprint_inputs(sequence=name)


@pytest.mark.parametrize("write", [write_frames_25k, write_sens, write_tum, write_nerfstudio])
def test_fingerprint_changes_with_a_frame_of_any_layout(node, folders, write):
    folder = write(folders / "input" / "room", walk(3, 96, 72))
    before = node.fingerprint_inputs(sequence="room")
    path = max((path for path in folder.rglob("*.p*") if path.parent.name != "label"), key=str)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))
    assert node.fingerprint_inputs(sequence="room") != before
