"""Read profiles of Nsight Compute from its raw page."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gspn2bench.label import Label
from gspn2bench.nvtx_ranges import DOMAIN
from gspn2bench.profile.trace import (
    ProfilerTrace,
    TracedLaunch,
    UnreadableError,
    base_name,
    one_line,
)
from gspn2bench.system import ncu_page
from gspn2bench.system.ncu_page import NAME, PageError

DURATION: Final = "gpu__time_duration.sum"
GPU: Final = "device__attribute_display_name"
RANGES: Final = "Push/Pop_Range"
"""Part of the title of the column with a kernel's ranges, present if ncu ran with --nvtx."""
NANOSECONDS: Final = {
    **dict.fromkeys(("ns", "nsecond"), 1),
    **dict.fromkeys(("us", "usecond"), 10**3),
    **dict.fromkeys(("ms", "msecond"), 10**6),
    **dict.fromkeys(("s", "second"), 10**9),
}


def read(path: Path) -> ProfilerTrace:
    """Read a file with the output of ``ncu --csv --page raw``.

    Raises:
        UnreadableError: the file can't be read, or ``parse`` refuses it.
    """
    try:
        return parse(ncu_page.decode(path.read_bytes()))
    except OSError as error:
        raise UnreadableError(f"can't be read: {error.strerror}") from error
    except PageError as error:
        raise UnreadableError(f"can't be read: {error}") from error


def parse(text: str) -> ProfilerTrace:
    """The launches in the output of ``ncu --csv --page raw``; ncu's own messages are skipped.

    Launches have no start time, because ncu serializes them.

    Raises:
        UnreadableError: the text is not such a page or a part of one, a duration is not a number of
            its unit, or no kernel lies in a range ``measure`` of a sweep.
    """
    try:
        page = ncu_page.parse(text)
    except PageError as error:
        raise UnreadableError(f"not a CSV file of ncu's raw page: {error}") from error
    if page is None:
        raise UnreadableError(f"not a CSV file of ncu's raw page: no column {NAME!r}")
    if DURATION not in page.columns:
        raise UnreadableError(f"no column {DURATION!r}; profile with --set full")
    unit = page.units[DURATION]
    scale = NANOSECONDS.get(unit)
    if scale is None:
        raise UnreadableError(f"{DURATION} does not have a unit of time, but {unit!r}")
    launches: dict[Label | None, list[TracedLaunch]] = defaultdict(list)
    gpus = dict[str, None]()
    for number, cells in enumerate(page.kernels, 1):
        name = one_line(base_name(cells[NAME]))
        try:
            duration = page.whole_number(cells, DURATION, scale)
        except ValueError as error:
            raise UnreadableError(f"kernel {number} has no {DURATION}: {name}: {error}") from error
        if duration == 0:
            raise UnreadableError(f"kernel {number} has no {DURATION}: {name}: it is 0")
        if gpu := cells.get(GPU):
            gpus[one_line(gpu)] = None
        inside, label = _label(cells)
        if inside:
            launches[label].append(TracedLaunch(name, duration))
    if not launches:
        raise UnreadableError(f"no kernel in an NVTX range {DOMAIN}@measure")
    return ProfilerTrace("ncu", None, tuple(gpus), dict(launches))


def _label(cells: Mapping[str, str]) -> tuple[bool, Label | None]:
    """Whether a kernel lies in a range of gspn2bench, and the label of the innermost labelled one.

    A range is written as domain:name, followed by six fields that are not used here.
    """
    ranges = " ".join(cell for title, cell in cells.items() if RANGES in title)
    names = re.findall(rf'{DOMAIN}:([^":]*)', ranges)
    labels = [label for label in map(Label.parse, names) if label]
    return bool(labels) or "measure" in names, labels[-1] if labels else None
