"""Read the SQLite export of Nsight Systems by its documented schema.

A launch belongs to the range in which the CPU made the launching call: the row of
CUPTI_ACTIVITY_KIND_RUNTIME with the same correlationId in the same process. Without such a row, the
start on the GPU decides, although it may lie after the end of the range. If a range contains nodes
of a CUDA graph, its other launches do not belong to the call: torch updates the state of its random
number generator around a replay.
"""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gspn2bench.label import Label
from gspn2bench.nvtx_ranges import RangeName
from gspn2bench.profile.trace import ProfilerTrace, TracedLaunch, UnreadableError, base_name

MEASURE: Final[RangeName] = "measure"
SCENARIO: Final[RangeName] = "scenario"
KERNELS: Final = "CUPTI_ACTIVITY_KIND_KERNEL"
OTHERS: Final = {
    "CUPTI_ACTIVITY_KIND_MEMCPY": "[memcpy]",
    "CUPTI_ACTIVITY_KIND_MEMSET": "[memset]",
}
CALLS: Final = "CUPTI_ACTIVITY_KIND_RUNTIME"
THREAD_BITS: Final = 24
"""Low bits of globalTid that hold the thread; the rest is globalPid."""


@dataclass(frozen=True)
class _Range:
    start: int
    end: float
    text: str
    process: int | None
    thread: int | None

    def holds(self, time: int, process: int | None) -> bool:
        """Whether a time lies in the range, in the same process if both processes are known."""
        known = process is not None and self.process is not None
        return self.start <= time <= self.end and (not known or process == self.process)


def read(path: Path) -> ProfilerTrace:
    """Read an export made by ``nsys export --type sqlite``.

    Raises:
        UnreadableError: the file is not such an export, or it has no kernel in a range ``measure``.
    """
    try:
        with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)) as database:
            return _Export(database).trace()
    except sqlite3.Error as error:
        raise UnreadableError(f"not an SQLite export of nsys: {error}") from error


class _Export:
    """The tables of an export. Any of them may be missing: nsys omits empty tables."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        names = database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
        self._tables = {str(name) for (name,) in names}
        self._strings = dict(self._rows("StringIds", "id", "value"))

    def trace(self) -> ProfilerTrace:
        """The launches in ranges ``measure``, with the facts of the file."""
        if "NVTX_EVENTS" not in self._tables:
            raise UnreadableError("no NVTX ranges; profile with -t cuda,nvtx")
        ranges = list(self._ranges())
        labelled = [(each, Label.parse(each.text)) for each in ranges]
        trials: list[tuple[_Range, Label | None]] = [pair for pair in labelled if pair[1]]
        trials = trials or [(each, None) for each in ranges if each.text == MEASURE]
        launches: dict[Label | None, list[TracedLaunch]] = defaultdict(list)
        for launch, called_at, process in self._launches():
            inside = [pair for pair in trials if pair[0].holds(called_at, process)]
            if inside:
                innermost = max(inside, key=lambda pair: pair[0].start)
                launches[innermost[1]].append(launch)
        if not launches:
            raise UnreadableError(f"no kernel in an NVTX range {MEASURE}")
        ordered = {label: _of_the_call(group) for label, group in launches.items()}
        scenarios = frozenset(_scenarios(ranges))
        return ProfilerTrace("nsys", self._version(), self._gpus(), ordered, scenarios)

    def _rows(self, table: str, *columns: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a table; a column that the table does not have is None."""
        if table not in self._tables:
            return
        known = {row[1] for row in self._database.execute(f"PRAGMA table_info({table})")}
        selected = ", ".join(f'"{name}"' if name in known else "NULL" for name in columns)
        yield from self._database.execute(f"SELECT {selected} FROM {table}")

    def _ranges(self) -> Iterator[_Range]:
        columns = ("start", "end", "text", "textId", "globalTid")
        for start, end, text, text_id, thread in self._rows("NVTX_EVENTS", *columns):
            name = text if text is not None else self._strings.get(text_id)
            if name is None or start is None:
                continue
            # a range without an end was still open when the capture stopped
            stop = math.inf if end is None else end
            yield _Range(start, stop, name, _process(thread), thread)

    def _launches(self) -> Iterator[tuple[TracedLaunch, int, int | None]]:
        """Each launch, the time of its launching call, and the process of that call."""
        calls: dict[tuple[int | None, int], int] = {}
        for start, correlation, thread in self._rows(CALLS, "start", "correlationId", "globalTid"):
            for process in {_process(thread), None}:
                calls[process, correlation] = start
        columns = ("start", "end", "correlationId", "globalPid", "graphNodeId")
        names = ("demangledName", "shortName")
        for table, fixed in {KERNELS: None, **OTHERS}.items():
            for row in self._rows(table, *columns, *names):
                start, end, correlation, pid, node, *ids = row
                process = _process(pid)
                name = fixed or self._name(ids)
                launch = TracedLaunch(name, end - start, start, in_graph=bool(node))
                yield launch, calls.get((process, correlation), start), process

    def _name(self, ids: Sequence[int | None]) -> str:
        names = (self._strings.get(each) for each in ids if each is not None)
        return next((base_name(name) for name in names if name), "unnamed")

    def _version(self) -> str | None:
        metadata = dict(self._rows("META_DATA_EXPORT", "name", "value"))
        version = metadata.get("EXPORT_PRODUCT_VERSION")
        return None if version is None else str(version)

    def _gpus(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for (name,) in self._rows("TARGET_INFO_GPU", "name")))


def _of_the_call(launches: list[TracedLaunch]) -> list[TracedLaunch]:
    """The launches of a call in order of start, without those around a graph."""
    nodes = [launch for launch in launches if launch.in_graph]
    return sorted(nodes or launches, key=lambda launch: launch.start_ns or 0)


def _process(global_id: int | None) -> int | None:
    return None if global_id is None else global_id >> THREAD_BITS


def _scenarios(ranges: Sequence[_Range]) -> Iterator[str]:
    """The name of the first range inside each range ``scenario``."""
    for outer in ranges:
        if outer.text == SCENARIO:
            inner = [
                each
                for each in ranges
                if each is not outer
                and each.thread == outer.thread
                and outer.start <= each.start <= outer.end
            ]
            if inner:
                yield min(inner, key=lambda each: each.start).text
