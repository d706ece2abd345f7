"""The figures of a report as PNG files, drawn by a headless browser on the page itself."""

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
"""For one browser to draw all figures."""
VIRTUAL_MS: Final = 60_000
"""Of the page's own clock, which runs ahead while nothing is left to do."""
PICTURE: Final = re.compile(
    r'<img data-picture="([a-z]+)" src="data:image/png;base64,([A-Za-z0-9+/=]+)"'
)


def write_pictures(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draw what the page shows at first: a picture for each figure, 1920 pixels wide, light.

    Args:
        runs: as ``page.render`` takes them.
        folder: for ``<run id>-<figure>.png``; earlier pictures of the runs are replaced.

    Returns:
        The files.

    Raises:
        UsageError: there is no browser, it draws nothing, or the folder cannot be written.
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
        raise UsageError(
            f"--png: there is nothing to draw in {name}, or {browser} is too old to draw it"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for figure, data in drawn:
            file = folder / f"{name}-{figure}.png"
            file.write_bytes(base64.b64decode(data))
            files.append(file)
    except OSError as error:
        raise UsageError(f"--png: {folder} cannot be written: {error.strerror}") from error
    return files


def _drawn(browser: Path, page: Path) -> str:
    """The page as it stands in the browser once its pictures are in it."""
    command = [
        str(browser),
        "--headless",
        "--disable-gpu",
        # a browser will not run as root in a sandbox; the page is ours, and reaches no network
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        f"--user-data-dir={page.parent / 'profile'}",
        f"--virtual-time-budget={VIRTUAL_MS}",
        "--dump-dom",
        f"{page.as_uri()}?pictures",
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"--png: {browser} took over {SECONDS:g} s; fix: {INSTALL['chromium']}"
        ) from error
    except subprocess.CalledProcessError as error:
        how = f"fails with exit code {error.returncode}"
        raise UsageError(f"--png: {browser} {how}; fix: {INSTALL['chromium']}") from error
    except OSError as error:
        raise UsageError(
            f"--png: {browser} can't be run: {error.strerror}; fix: {INSTALL['chromium']}"
        ) from error
    return done.stdout
