"""Names of files to be written: what is left of tokens, and of characters that not every system has in names."""

from __future__ import annotations

import logging
import os
import time

import pytest

from mvdiffusion_pack.host.file_names import file_name, with_host_tokens


@pytest.fixture
def log(caplog):
    """`log.messages` are the lines of the pack's log."""
    caplog.set_level(logging.WARNING, logger="MVDiffusion")
    return caplog


@pytest.mark.parametrize("text", ["panorama", "trip/day 1/pano_%batch_num%", "50%", "%year%-%month%", "全景", "/a"])
def test_plain_names_stay(text: str, log):
    assert file_name("Save", text, "other") == text
    assert log.messages == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pano_%date:yyyy-MM-dd%", "pano_"),
        ("%LoadImage.image%_pano", "_pano"),
        ("a%date:hh:mm%b%Load Image.image%c", "abc"),
        ("trip/%date:yyyy-MM-dd%/pano", "trip/pano"),
        ("%date:yyyy-MM-dd%/pano", "pano"),  # not /pano
        ("trip/%date:yyyy%", "trip/panorama"),
        ("trip\\%date:yyyy%", "trip/panorama"),
        ("%date:yyyy-MM-dd%_%LoadImage.image%", "panorama"),
        ("/%date:yyyy%/pano", "/pano"),  # still none of the output folder
        ("%year%_%date:dd%", "%year%_"),
        ("%date:yyyy/MM/dd%", "panorama"),
        ("trip/a%date:yyyy\\MM%/pano", "trip/a/pano"),
    ],
)
def test_tokens_of_the_page_are_left_out(text: str, name: str):
    assert file_name("Save", text, "panorama") == name


@pytest.mark.parametrize(
    ("text", "name"), [("", "panorama"), ("  ", "panorama"), ("trip/", "trip/panorama"), ("trip\\ ", "trip\\panorama")]
)
def test_an_empty_name_is_the_default(text: str, name: str, log):
    assert file_name("Save", text, "panorama") == name
    assert log.messages == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CON", "CON_"),
        ("nul/pano", "nul_/pano"),
        ("trip\\LPT1\\pano", "trip\\LPT1_\\pano"),
        ("a/com².tar.gz", "a/com²_.tar.gz"),
        ("AUX ", "AUX_ "),
        ("icon/console/con1/COM/nul_", "icon/console/con1/COM/nul_"),
    ],
)
def test_names_of_windows_devices_get_a_line_behind_them(text: str, name: str):
    assert file_name("Save", text, "panorama") == name


def test_one_line_says_what_is_left_out(log):
    file_name("Save Panorama", "p%date:dd%_%LoadImage.image%", "panorama")
    (line,) = log.messages
    assert line.startswith("Save Panorama: 'p%date:dd%_%LoadImage.image%' becomes 'p_', without %date:dd%, %LoadIm")


def test_names_that_no_system_takes_are_refused():
    assert file_name("Save", "trip/" + 200 * "a")
    with pytest.raises(ValueError, match=r"Save: 'a{20}...' has 201 bytes; a name may have 200"):
        file_name("Save", "trip/" + 201 * "a")


def test_without_a_default_nothing_may_be_left():
    assert file_name("Train CAA", "%date:yyyy%") == ""


@pytest.mark.parametrize("character", [*'<>:"|?*', "\n", "\x7f", "\ud83d"])
def test_characters_that_windows_forbids_and_halves_of_one_become_a_line(character: str, log):
    assert file_name("Save", f"trip/a{character}b") == "trip/a_b"
    assert log.messages == []


@pytest.mark.skipif(os.name != "nt", reason="only Windows has drives")
def test_drive_stays():
    assert file_name("Save", "C:\\ComfyUI\\output\\a:b") == "C:\\ComfyUI\\output\\a_b"


def test_tokens_of_the_host():
    before = time.strftime("%Y-%m-%d")
    name = with_host_tokens("%year%-%month%-%day%_%width%x%height%_%batch_num%", 512, 256)
    assert name in [f"{day}_512x256_%batch_num%" for day in (before, time.strftime("%Y-%m-%d"))]
    assert time.strptime(with_host_tokens("%hour%:%minute%:%second%", 1, 1), "%H:%M:%S")
