"""The figures of a report as PNG files, drawn on the page by a headless browser."""

import base64
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gspn2bench.errors import UsageError
from gspn2bench.records.store import Run
from gspn2bench.report.files import file_name
from gspn2bench.report.html.page import render
from gspn2bench.report.summary import run_ids
from gspn2bench.system.executables import INSTALL, find_chromium

SECONDS: Final = 180.0
"""Limit for the browser to draw all figures."""
VIRTUAL_MS: Final = 60_000
"""Limit on the page's virtual clock, which skips idle time."""
PICTURE: Final = re.compile(
    r'<img data-picture="([a-z]+)" src="data:image/png;base64,([A-Za-z0-9+/=]+)"'
)


def write_pictures(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw the figures of the page with its first filter values, 1920 pixels wide, light.

    Args:
        runs: as for ``page.render``.
        folder: where ``<run id>-<figure>.png`` go; earlier pictures of the runs are replaced.

    Returns:
        The paths of the files.

    Raises:
        UsageError: no browser is found, it draws nothing, or the folder can't be written.
    """
    browser = find_chromium()
    if browser is None:
        raise UsageError(f"--png: needs a browser, and none was found; fix: {INSTALL['chromium']}")
    name = file_name(run_ids(runs))
    with tempfile.TemporaryDirectory(prefix="gspn2bench-") as scratch:
        page = Path(scratch) / "report.html"
        page.write_text(render(runs), encoding="utf-8")
        drawn = PICTURE.findall(_drawn(browser, page))
    if not drawn:
        raise UsageError(f"--png: {name} has no figure to draw, or {browser} is too old to draw it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for figure, data in drawn:
            file = folder / f"{name}-{figure}.png"
            file.write_bytes(base64.b64decode(data))
            files.append(file)
    except OSError as error:
        raise UsageError(f"--png: {folder} can't be written: {error.strerror}") from error
    return files


def _drawn(browser: Path, page: Path) -> str:
    """The HTML of the page after the browser has added the pictures."""
    command = [
        str(browser),
        "--headless",
        "--disable-gpu",
        # Chromium refuses to run as root in a sandbox; the page is ours and uses no network
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        f"--user-data-dir={page.parent / 'profile'}",
        f"--virtual-time-budget={VIRTUAL_MS}",
        "--dump-dom",
        f"{page.as_uri()}?pictures",
    ]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"--png: {browser} took over {SECONDS:g} s; fix: {INSTALL['chromium']}"
        ) from error
    except subprocess.CalledProcessError as error:
        raise UsageError(
            f"--png: {browser} failed with exit code {error.returncode}; fix: {INSTALL['chromium']}"
        ) from error
    except OSError as error:
        raise UsageError(
            f"--png: {browser} can't be run: {error.strerror}; fix: {INSTALL['chromium']}"
        ) from error
    return result.stdout
