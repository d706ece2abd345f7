"""Synthetic files of profilers, in the formats that their manuals document."""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner, Result

from gspn2bench.app import app
from gspn2bench.errors import UsageError
from gspn2bench.label import Label
from gspn2bench.records.store import Run, RunWriter

from .report_fixtures import record, row

CASE = "N16 C8 1024x1024 float32"
GPU = "Fixture GPU"
PROCESS = (1 << 56) | (2 << 48) | (77 << 24)
"""A globalPid: hardware, virtual machine, process id; the bits of the thread are 0."""
THREAD = PROCESS | 78
BEGIN = 1_000_000_000
MANGLED = (
    "_ZN10gspn2bench7kernels15{rung}23{rung}_forwardB3v11B92cw51cXTLSUwv1sDUaKthqaNgoKmjgOR3W3CwAk"
    "MXLaJtQYkOIgxJU0gCqOkEJoHkbttqdVhoqlspQGNFHSgJ5BnXagIAE5ArrayIfLi1E1C7mutable7alignedExxxx"
)
R01 = MANGLED.format(rung="r01_line_launch")

# Nsight Systems 2025.3, Post-Collection Analysis Guide, SQLite schema reference
SCHEMA = """
CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE META_DATA_EXPORT (name TEXT NOT NULL, value TEXT);
CREATE TABLE TARGET_INFO_GPU (vmId INTEGER NOT NULL, id INTEGER NOT NULL, name TEXT,
  busLocation TEXT, isDiscrete INTEGER, l2CacheSize INTEGER, totalMemory INTEGER,
  memoryBandwidth INTEGER, clockRate INTEGER, smCount INTEGER, pwGpuId INTEGER, uuid TEXT,
  luid INTEGER, chipName TEXT, cuDevice INTEGER, ctxswDevPath TEXT, ctrlDevPath TEXT);
CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL,
  rangeId INTEGER, category INTEGER, color INTEGER, text TEXT, globalTid INTEGER,
  endGlobalTid INTEGER, textId INTEGER, domainId INTEGER, uint64Value INTEGER,
  int64Value INTEGER, doubleValue REAL, uint32Value INTEGER, int32Value INTEGER, floatValue REAL,
  jsonTextId INTEGER, jsonText TEXT, binaryData TEXT);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER NOT NULL, end INTEGER NOT NULL,
  eventClass INTEGER NOT NULL, globalTid INTEGER, correlationId INTEGER, nameId INTEGER NOT NULL,
  returnValue INTEGER NOT NULL, callchainId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL,
  deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, greenContextId INTEGER,
  streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER,
  demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL, mangledName INTEGER,
  launchType INTEGER, cacheConfig INTEGER, registersPerThread INTEGER NOT NULL,
  gridX INTEGER NOT NULL, gridY INTEGER NOT NULL, gridZ INTEGER NOT NULL,
  blockX INTEGER NOT NULL, blockY INTEGER NOT NULL, blockZ INTEGER NOT NULL,
  staticSharedMemory INTEGER NOT NULL, dynamicSharedMemory INTEGER NOT NULL,
  graphId INTEGER, graphNodeId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMSET (start INTEGER NOT NULL, end INTEGER NOT NULL,
  deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, streamId INTEGER NOT NULL,
  correlationId INTEGER, globalPid INTEGER, value INTEGER NOT NULL, bytes INTEGER NOT NULL,
  graphNodeId INTEGER, memKind INTEGER);
"""
PUSH_POP, DOMAIN_CREATED = 59, 75

CSV_TITLES = (
    "ID",
    "Process ID",
    "Process Name",
    "Host Name",
    "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg",
    "Id:Domain:Start/Stop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg",
    "Kernel Name",
    "Context",
    "Stream",
    "Block Size",
    "Grid Size",
    "Device",
    "CC",
    "device__attribute_display_name",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "gpu__time_duration.sum",
)


class Kernel(NamedTuple):
    """A launch: its name, start and end on the GPU, and time of the launching call, nanoseconds."""

    name: str
    start: int
    end: int
    called: int | None


def label(rung: str = "r01", **changes: Any) -> Label:
    """The label of a trial of the fixture run."""
    fields: dict[str, Any] = {"case": CASE, "rung": rung, "phase": "forward", "timing": "graph"}
    return Label(**fields | changes)


def fixture_run(
    extra: Sequence[dict[str, Any]] = (), run: dict[str, Any] | None = None, **changes: Any
) -> Run:
    """r01 with 1024 launches and r07 with one, on one case; ``changes`` apply to every row."""
    few = {"rung": "r07", "launches_expected": 1, "launches_observed": 1}
    rows = [row(**each | changes) for each in ({}, few, *extra)]
    head = record(**{"environment": {"gpu": {"name": GPU}}} | (run or {}))
    return Run(Path("fixture-run"), head, tuple(rows))


def save(folder: Path, run: Run) -> Path:
    """Write a run to a new folder."""
    folder.mkdir()
    with RunWriter(folder, run.record) as writer:
        for row in run.rows:
            writer.add(row)
    return folder


def ingest(file: Path, folder: Path) -> Result:
    """Run ``gspn2bench ingest`` with a file and a run folder."""
    return CliRunner().invoke(app, ["ingest", str(file), str(folder)], env={"COLUMNS": "160"})


def refused(file: Path, folder: Path, message: str) -> None:
    """Assert that the file is refused with this message, and that nothing is written."""
    before = sorted(folder.iterdir())
    done = ingest(file, folder)
    assert isinstance(done.exception, UsageError), done.output
    assert re.search(message, str(done.exception)), str(done.exception)
    assert sorted(folder.iterdir()) == before


def kernels(count: int, calls: int = 1, name: str = R01, called: bool = True) -> list[Kernel]:
    """Kernels of 10 us, 5 us apart; calls are a millisecond apart."""
    launches = []
    for i in range(count * calls):
        start = BEGIN + 15_000 * i + 1_000_000 * (i // count)
        launches.append(Kernel(name, start, start + 10_000, start - 5_000 if called else None))
    return launches


def export(
    path: Path,
    launches: Sequence[Kernel],
    ranges: Sequence[tuple[str, int, int | None]] | None = None,
    gpu: str = GPU,
    without: Sequence[str] = (),
    memsets: int = 0,
    graph: bool = True,
) -> Path:
    """Build an SQLite export; by default, one range ``measure`` with r01's label has all launches.

    Args:
        path: path of the file.
        launches: kernels to record.
        ranges: (name, start, end) in nanoseconds; the end of a range that is still open is None.
        gpu: name of the machine's GPU.
        without: tables to leave out.
        memsets: memsets after the kernels.
        graph: whether the kernels are nodes of a graph; memsets are not.
    """
    end = max(launch.end for launch in launches) + 20_000
    if ranges is None:
        ranges = [("measure", BEGIN - 20_000, end), (str(label()), BEGIN - 19_000, end)]
    strings: dict[str, int] = {}

    def string(text: str) -> int:
        return strings.setdefault(text, len(strings) + 1)

    with closing(sqlite3.connect(path)) as database:
        database.executescript(SCHEMA)

        def add(table: str, **values: object) -> None:
            known = [r[1] for r in database.execute(f"PRAGMA table_info({table})") if r[3]]
            filled = dict.fromkeys(known, 0) | values
            names = ", ".join(f'"{name}"' for name in filled)
            marks = ", ".join("?" * len(filled))
            database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", (*filled.values(),))

        add("META_DATA_EXPORT", name="EXPORT_PRODUCT_VERSION", value="2025.3.1.90")
        add("TARGET_INFO_GPU", id=0, name=gpu)
        add("NVTX_EVENTS", start=0, eventType=DOMAIN_CREATED, text="gspn2bench", domainId=1)
        for name, start, stop in ranges:
            where = {"eventType": PUSH_POP, "globalTid": THREAD, "domainId": 1}
            add("NVTX_EVENTS", start=start, end=stop, textId=string(name), **where)
        for number, launch in enumerate(launches, 1):
            names = {"demangledName": string(launch.name), "shortName": string("kernel")}
            how = {
                "correlationId": number,
                "globalPid": PROCESS,
                "graphNodeId": number if graph else None,
            }
            add("CUPTI_ACTIVITY_KIND_KERNEL", start=launch.start, end=launch.end, **names, **how)
            if launch.called is not None:
                call = {"start": launch.called, "end": launch.called + 2_000, "globalTid": THREAD}
                name_id = string("cuLaunchKernelEx")
                add("CUPTI_ACTIVITY_KIND_RUNTIME", correlationId=number, nameId=name_id, **call)
        for number in range(memsets):
            start = launches[-1].end + 1_000 * number
            add("CUPTI_ACTIVITY_KIND_MEMSET", start=start, end=start + 500, globalPid=PROCESS)
        for text, key in strings.items():
            add("StringIds", id=key, value=text)
        for table in without:
            database.execute(f"DROP TABLE {table}")
        database.commit()
    return path


def csv(
    path: Path,
    count: int,
    name: str = "r01_line_launch_forward",
    trial: Label | None = None,
    **cells: str,
) -> Path:
    """Build ncu's raw page as CSV, between messages of ncu.

    Args:
        path: path of the file.
        count: number of kernels, of 10 us each.
        name: name of every kernel.
        trial: label of the range; by default r01's.
        cells: cells to replace; ``unit`` is the unit of the duration.
    """
    unit = cells.pop("unit", "ns")
    ranges = [
        f"gspn2bench:{text}:none:none:none:none:registered:{text}"
        for text in ("scenario", "fixture", "case", f"{CASE} r01", "measure", str(trial or label()))
    ]
    usual = dict.fromkeys(CSV_TITLES, "1") | {
        CSV_TITLES[4]: "140  " + "  ".join(f'"{text}"' for text in ranges) + " ",
        CSV_TITLES[5]: "",
        "Kernel Name": name,
        "Block Size": "(512, 1, 1)",
        "device__attribute_display_name": GPU,
        "dram__throughput.avg.pct_of_peak_sustained_elapsed": "57.08",
        "gpu__time_duration.sum": "10,000",
    }
    values = usual | cells
    units = [unit if title.startswith("gpu__") else "" for title in CSV_TITLES]
    lines = [CSV_TITLES, units, *[(str(i), *list(values.values())[1:]) for i in range(count)]]
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines]
    text = ["==PROF== Connected to process 77", *quoted, "==PROF== Disconnected from process 77"]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path
