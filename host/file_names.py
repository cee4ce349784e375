"""Names that people give of files to be written: with tokens filled in, and such that every system can have them."""

from __future__ import annotations

import logging
import os
import re
import time

logger = logging.getLogger("MVDiffusion")

CLOCK = {"%year%": "%Y", "%month%": "%m", "%day%": "%d", "%hour%": "%H", "%minute%": "%M", "%second%": "%S"}
OF_THE_PAGE = re.compile(r"%(?:date:[^%]*|[^%./\\]+\.[^%./\\]+)%")  # filled in there, before a graph is queued
GONE = "\0"  # in the place of a token
LONGEST = 200  # bytes of a name without what is added to it: systems allow 255 in all
FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f\ud800-\udfff]')  # on Windows; and halves of characters, anywhere
DEVICE = re.compile(r"(?<![^/\\])(CON|PRN|AUX|NUL|(?:COM|LPT)[0-9¹²³])(?= *(?:[./\\]|$))", re.IGNORECASE)  # there, too


def file_name(node: str, text: str, default: str = "") -> str:
    """The name in `text`, which may have folders before it, with _ for each character that Windows forbids and
    behind each name that it has for devices.

    Tokens that only ComfyUI's page can fill in (%date:...%, %Node.widget%) are left out, with a line in the log;
    `default` is the name where none is given or left. Raises ValueError for names that are too long for any system.
    """
    drive, name = os.path.splitdrive(text)
    tokens = OF_THE_PAGE.findall(name)
    if tokens:
        name = _without_tokens(name)
    if not re.split(r"[/\\]", name)[-1].strip():
        name = name.rstrip() + default
    if tokens:
        logger.warning(
            f"{node}: '{text}' becomes '{drive}{name}', without {', '.join(tokens)}: only ComfyUI's page can fill in "
            f"such dates, and widgets of nodes that are in the graph. {', '.join(CLOCK)} work everywhere."
        )
    name = DEVICE.sub(r"\1_", FORBIDDEN.sub("_", name))
    for part in re.split(r"[/\\]", name):
        if (size := len(part.encode())) > LONGEST:
            raise ValueError(f"{node}: '{part[:20]}...' has {size} bytes; a name may have {LONGEST}.")
    return drive + name


def with_host_tokens(name: str, width: int, height: int) -> str:
    """What the host's `get_save_image_path` fills in, for names that are not given to it."""
    now = time.localtime()
    for token, code in CLOCK.items():
        name = name.replace(token, time.strftime(code, now))
    return name.replace("%width%", str(width)).replace("%height%", str(height))


def _without_tokens(name: str) -> str:
    parts = re.split(r"[/\\]", OF_THE_PAGE.sub(GONE, name))  # dates may have slashes
    kept = [part if GONE not in part else _rest(part) for part in parts]
    folders = [folder for folder, part in zip(kept[:-1], parts, strict=False) if folder or not part]
    return "/".join([*folders, kept[-1]])


def _rest(part: str) -> str:
    """A folder or name without its tokens, or nothing where no letter and no digit is left."""
    rest = part.replace(GONE, "")
    return rest if any(map(str.isalnum, rest)) else ""
