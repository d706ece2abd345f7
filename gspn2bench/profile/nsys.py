"""Read the launches of a sweep from the SQLite export of Nsight Systems.

A launch belongs to the range in which the CPU made the launching call, on any thread of the
process: autograd runs backward on a thread of its own. That call is the row of
CUPTI_ACTIVITY_KIND_RUNTIME with the same correlationId in the same process. Without such a row, the
start on the GPU decides, although it may lie after the end of the range. If a range contains nodes
of a CUDA graph, its other launches do not belong to the call: torch updates the state of its random
number generator around a replay.

Launches that the profiler lost are refused, because figures of the remaining ones would be wrong.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gspn2bench.label import Label
from gspn2bench.nvtx_ranges import DOMAIN, RangeName
from gspn2bench.profile.nsys_export import Column, Export
from gspn2bench.profile.trace import (
    ProfilerTrace,
    TracedLaunch,
    UnreadableError,
    base_name,
    one_line,
)

MEASURE: Final[RangeName] = "measure"
SCENARIO: Final[RangeName] = "scenario"
RANGES: Final = "NVTX_EVENTS"
PUSH_POP: Final = 59
"""eventType of a range of ``nvtx.annotate``; marks and ranges of other kinds have other numbers."""
DOMAIN_CREATED: Final = 75
STRINGS: Final = "StringIds"
GPUS: Final = "TARGET_INFO_GPU"
KERNELS: Final = "CUPTI_ACTIVITY_KIND_KERNEL"
OTHERS: Final = {
    "CUPTI_ACTIVITY_KIND_MEMCPY": "[memcpy]",
    "CUPTI_ACTIVITY_KIND_MEMSET": "[memset]",
}
CALLS: Final = "CUPTI_ACTIVITY_KIND_RUNTIME"
WHOLE_GRAPHS: Final = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
"""Graph launches recorded as one; their kernels are then in no table."""
GRAPH_LAUNCHES: Final = ("cudaGraphLaunch", "cuGraphLaunch")
KERNEL_LAUNCHES: Final = ("cudaLaunch", "cuLaunch")
HOST_FUNCTION: Final = "HostFunc"
GRAPH_CAPTURES: Final = ("cudaStreamBeginCapture", "cuStreamBeginCapture")
NODES: Final = "profile with --cuda-graph-trace=node"
TRACES: Final = "profile with -t cuda,nvtx"
THREAD_BITS: Final = 24
"""Low bits of globalTid that hold the thread; the rest is globalPid."""
SKEW_NS: Final = 1_000_000
"""Most by which the profiler's clocks of CPU and GPU may differ."""

Key = tuple[int, int | None]
"""Process and correlationId, which a launch shares with its launching call."""


@dataclass(frozen=True)
class _Range:
    start: int
    end: float
    text: str
    process: int
    thread: int

    def holds(self, time: int, process: int) -> bool:
        """Whether a time lies in the range, in the same process."""
        return self.start <= time <= self.end and process == self.process


_Trial = tuple[_Range, Label | None]


@dataclass(frozen=True)
class _Call:
    """A call of the CUDA API on the CPU."""

    start: int
    name: str
    key: Key

    @property
    def launches_kernel(self) -> bool:
        """Whether the call launches a kernel; cudaLaunchHostFunc runs a function on the CPU."""
        return self.name.startswith(KERNEL_LAUNCHES) and HOST_FUNCTION not in self.name


@dataclass(frozen=True)
class _Activity:
    """A launch on the GPU as it is stored."""

    row: str
    name: str
    start: int
    end: int
    key: Key
    node: int | None

    def launch(self, call: _Call | None) -> TracedLaunch:
        """The launch, after a check of its times.

        Raises:
            UnreadableError: a kernel can't have these times. CUPTI writes such rows if it loses
                the times of a launch.
        """
        fault = ""
        if self.start <= 0 or self.end <= 0:
            fault = f"has start {self.start} and end {self.end}"
        elif self.end <= self.start:
            fault = f"ends at {self.end}, not after its start at {self.start}"
        elif call is not None and self.start < call.start - SKEW_NS:
            fault = f"starts at {self.start}, before the call that launches it at {call.start}"
        if fault:
            raise UnreadableError(
                f"{self.row}: launch {self.name} {fault}: the profiler lost its times; profile "
                "again"
            )
        return TracedLaunch(self.name, self.end - self.start, self.start, in_graph=bool(self.node))


def read(path: Path) -> ProfilerTrace:
    """Read an export made by ``nsys export --type sqlite``.

    Raises:
        UnreadableError: the file is not such an export or is damaged; its schema lacks a table or
            column; a launch in a range ``measure`` is lost, has impossible times or is part of a
            graph that was recorded as one; or there is no launch in such a range.
    """
    with Export(path) as export:
        return _Reader(export).trace()


class _Reader:
    def __init__(self, export: Export) -> None:
        self._export = export
        export.require(RANGES, f"no NVTX ranges; {TRACES}")
        export.require(STRINGS)
        export.require(GPUS)
        columns = (Column("id"), Column("value", str))
        self._strings = {key: one_line(text) for key, text in export.rows(STRINGS, *columns)}
        self._calls: dict[Key, _Call] = {call.key: call for call in self._api_calls()}

    def trace(self) -> ProfilerTrace:
        """The launches in ranges ``measure``, with the facts of the file."""
        ranges = list(self._ranges())
        labelled = [(each, Label.parse(each.text)) for each in ranges]
        trials: list[_Trial] = [pair for pair in labelled if pair[1]]
        trials = trials or [(each, None) for each in ranges if each.text == MEASURE]
        activities = list(self._activities())
        self._check_complete(trials, activities)
        launches: dict[Label | None, list[TracedLaunch]] = defaultdict(list)
        for activity in activities:
            call = self._calls.get(activity.key)
            if call is None:
                activity.launch(None)  # the times say which range it belongs to
            time = activity.start if call is None else call.start
            trial = _innermost(trials, time, activity.key[0])
            if trial is not None:
                launches[trial[1]].append(activity.launch(call))
        if not launches:
            self._export.require(KERNELS, f"no kernel was recorded; {TRACES}")
            raise UnreadableError(f"no kernel in an NVTX range {MEASURE} of the domain {DOMAIN}")
        return ProfilerTrace(
            "nsys",
            self._export.product_version,
            self._gpus(),
            {label: _of_the_call(group) for label, group in launches.items()},
            frozenset(_scenarios(ranges)),
        )

    def _check_complete(self, trials: Sequence[_Trial], activities: Sequence[_Activity]) -> None:
        """Check that the launching calls of the trials have their launches.

        Raises:
            UnreadableError: a graph was recorded as one, or a launch is missing.
        """
        for start, key in self._whole_graphs():
            call = self._calls.get(key)
            if _innermost(trials, start if call is None else call.start, key[0]):
                raise UnreadableError(
                    f"table {WHOLE_GRAPHS}: the CUDA graph launched at {start} ns is recorded as "
                    f"one, without its kernels; {NODES}"
                )
        nodes = {activity.key for activity in activities if activity.node}
        launched = {activity.key for activity in activities}
        alone: list[tuple[_Trial, _Call]] = []
        capturing: list[_Trial] = []
        for call in self._calls.values():
            trial = _innermost(trials, call.start, call.key[0])
            if trial is None:
                continue
            if call.name.startswith(GRAPH_LAUNCHES) and call.key not in nodes:
                raise UnreadableError(
                    f"{call.name} at {call.start} ns has no kernels: the graph was recorded as one "
                    f"or lost; {NODES}"
                )
            if call.name.startswith(GRAPH_CAPTURES):
                capturing.append(trial)
            if call.launches_kernel and call.key not in launched:
                alone.append((trial, call))
        for trial, call in alone:
            if trial not in capturing:  # a call that is captured into a graph launches nothing
                raise UnreadableError(
                    f"{call.name} at {call.start} ns has no kernel: the profiler lost it; profile "
                    "again"
                )

    def _ranges(self) -> Iterator[_Range]:
        """The push-pop ranges of the domain of gspn2bench.

        An export without any domain row does not say whose ranges these are; all of them count.
        """
        rows = list(
            self._export.rows(
                RANGES,
                Column("start"),
                Column("end", nullable=True),
                Column("eventType"),
                Column("text", str, nullable=True),
                Column("textId", nullable=True),
                Column("globalTid", nullable=True),
                Column("domainId", nullable=True),
            )
        )
        domains = {
            (_process(thread), domain): self._text(text, text_id)
            for _, _, kind, text, text_id, thread, domain in rows
            if kind == DOMAIN_CREATED and thread is not None
        }
        for start, end, kind, text, text_id, thread, domain in rows:
            name = self._text(text, text_id)
            if kind != PUSH_POP or name is None:
                continue
            if thread is None:
                raise UnreadableError(f"table {RANGES}: range {name!r} has no globalTid")
            if domains and domains.get((_process(thread), domain)) != DOMAIN:
                continue
            # a range without an end was still open when the capture stopped
            stop = math.inf if end is None else end
            if stop < start:
                raise UnreadableError(
                    f"table {RANGES}: range {name!r} ends at {end}, before its start at {start}"
                )
            yield _Range(start, stop, name, _process(thread), thread)

    def _text(self, text: str | None, text_id: int | None) -> str | None:
        if text is not None:
            return one_line(text)
        return None if text_id is None else self._strings.get(text_id)

    def _api_calls(self) -> Iterator[_Call]:
        columns = (
            Column("start"),
            Column("nameId"),
            Column("globalTid", nullable=True),
            Column("correlationId", nullable=True),
        )
        for start, name, thread, correlation in self._export.rows(CALLS, *columns):
            if correlation is not None and thread is not None:
                text = self._strings.get(name, "unnamed call")
                yield _Call(start, text, (_process(thread), correlation))

    def _whole_graphs(self) -> Iterator[tuple[int, Key]]:
        columns = (Column("start"), Column("globalPid"), Column("correlationId", nullable=True))
        for start, process, correlation in self._export.rows(WHOLE_GRAPHS, *columns):
            yield start, (_process(process), correlation)

    def _activities(self) -> Iterator[_Activity]:
        """Every kernel, memcpy and memset.

        Raises:
            UnreadableError: a row occurs twice.
        """
        shared = (
            Column("start"),
            Column("end"),
            Column("globalPid"),
            Column("correlationId", nullable=True),
            Column("graphNodeId", nullable=True),
        )
        named = (Column("demangledName"), Column("shortName"))
        seen = set[tuple[object, ...]]()
        for table, fixed in {KERNELS: None, **OTHERS}.items():
            columns = shared if fixed else (*shared, *named)
            for number, row in enumerate(self._export.rows(table, *columns), 1):
                start, end, pid, correlation, node, *ids = row
                place = f"table {table}, row {number}"
                if fixed is None and correlation is not None:
                    if row in seen:
                        raise UnreadableError(f"{place}: the launch is in the table twice")
                    seen.add(row)
                name = fixed or self._kernel_name(ids)
                yield _Activity(place, name, start, end, (_process(pid), correlation), node)

    def _kernel_name(self, ids: Iterable[int]) -> str:
        names = (self._strings.get(each) for each in ids)
        return next((base_name(name) for name in names if name), "unnamed")

    def _gpus(self) -> tuple[str, ...]:
        rows = self._export.rows(GPUS, Column("name", str, nullable=True))
        return tuple(dict.fromkeys(one_line(name) for (name,) in rows if name))


def _innermost(trials: Sequence[_Trial], time: int, process: int) -> _Trial | None:
    """The trial that began last of those whose range holds a time of a process."""
    inside = [trial for trial in trials if trial[0].holds(time, process)]
    return max(inside, key=lambda trial: trial[0].start, default=None)


def _of_the_call(launches: list[TracedLaunch]) -> list[TracedLaunch]:
    """The launches of a call in order of start, without those around a graph."""
    nodes = [launch for launch in launches if launch.in_graph]
    return sorted(nodes or launches, key=lambda launch: launch.start_ns or 0)


def _process(global_id: int) -> int:
    return global_id >> THREAD_BITS


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
