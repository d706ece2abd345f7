"""Real exports of nsys: what is read, and the faults of real files, each planted and refused."""

import re

import pytest

from ..helpers.real_exports import RUNS, changed, outcome, real, run_of, trial

KERNEL = "CUPTI_ACTIVITY_KIND_KERNEL"
RUNTIME = "CUPTI_ACTIVITY_KIND_RUNTIME"
WHOLE = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
AS_ONE = (
    f"CREATE TABLE {WHOLE} (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT "
    "NULL, contextId INTEGER NOT NULL, greenContextId INTEGER, streamId INTEGER NOT NULL, "
    "correlationId INTEGER, globalPid INTEGER, graphId INTEGER, graphExecId INTEGER)",
    f"INSERT INTO {WHOLE} SELECT min(start), max(end), 0, 1, 0, 7, correlationId, globalPid, 1, 2 "
    f"FROM {KERNEL} WHERE graphNodeId NOT NULL GROUP BY correlationId",
    f"DELETE FROM {KERNEL} WHERE graphNodeId NOT NULL",
)
"""The tables as nsys writes them with --cuda-graph-trace=graph, its default."""
SOME = f"rowid = (SELECT max(rowid) FROM {KERNEL})"


@pytest.mark.parametrize(
    ("name", "calls", "launches", "gpu_ms", "gap_ms"),
    [
        ("graph-r01-fig3", 2, 1024, (36_391_938 + 36_458_863) / 2e6, (280_861 + 279_920) / 2e6),
        ("graph-r07-fig3", 2, 1, (1_082_160 + 1_076_495) / 2e6, 0.0),
        ("eager-r01-quick", 2, 64, (117_051 + 118_530) / 2e6, (448_524 + 368_485) / 2e6),
    ],
)
def test_a_real_export_is_read(name, calls, launches, gpu_ms, gap_ms):
    result = trial(real(name), run_of(name))
    assert (result.calls, result.launches) == (calls, launches)
    assert result.gpu_ms == pytest.approx(gpu_ms)
    assert result.gap_ms == pytest.approx(gap_ms)
    assert len(result.timeline) == launches


REFUSED = {
    # graphs recorded as one
    "graph as one, r07": (
        "graph-r07-fig3",
        AS_ONE,
        f"table {WHOLE}: the CUDA graph launched at .* --cuda-graph-trace=node",
    ),
    "graph as one, r01": ("graph-r01-fig3", AS_ONE, "--cuda-graph-trace=node"),
    "graph as one, without calls": (
        "graph-r07-fig3",
        (*AS_ONE, f"DROP TABLE {RUNTIME}"),
        "--cuda-graph-trace=node",
    ),
    "graph as one, without its table": (
        "graph-r07-fig3",
        (*AS_ONE, f"DROP TABLE {WHOLE}"),
        "cudaGraphLaunch_v10000 at .* has no kernels: .* --cuda-graph-trace=node",
    ),
    "graph as one, no kernel at all": (
        "graph-r07-fig3",
        (*AS_ONE, f"DROP TABLE {KERNEL}"),
        "--cuda-graph-trace=node",
    ),
    "graph as one, a newer table": (
        "graph-r07-fig3",
        (*AS_ONE, f"ALTER TABLE {WHOLE} RENAME TO {WHOLE}_V2"),
        f"no table {WHOLE} .schema 3.7.2., but {WHOLE}_V2",
    ),
    "one replay lost": (
        "graph-r07-fig3",
        (f"DELETE FROM {KERNEL} WHERE {SOME}",),
        "cudaGraphLaunch_v10000 at .* has no kernels",
    ),
    "nodes and calls lost": (
        "graph-r07-fig3",
        (f"DELETE FROM {KERNEL} WHERE graphNodeId NOT NULL", f"DROP TABLE {RUNTIME}"),
        "no kernel of r07 in the range",
    ),
    # times
    "start and end 0": (
        "graph-r01-fig3",
        (f"UPDATE {KERNEL} SET start = 0, end = 0 WHERE {SOME}",),
        f"table {KERNEL}, row 2050: launch r01_line_launch_forward has start 0 and end 0",
    ),
    "end before start": (
        "graph-r07-fig3",
        (f"UPDATE {KERNEL} SET end = start - 5 WHERE {SOME}",),
        "row 4: launch r07_gspn2_forward ends at .*, not after its start",
    ),
    "end at start": (
        "graph-r07-fig3",
        (f"UPDATE {KERNEL} SET end = start WHERE {SOME}",),
        "not after its start",
    ),
    "end 0": ("graph-r07-fig3", (f"UPDATE {KERNEL} SET end = 0 WHERE {SOME}",), "end 0"),
    "negative": (
        "graph-r07-fig3",
        (f"UPDATE {KERNEL} SET start = -start WHERE {SOME}",),
        "has start -",
    ),
    "no times and no call": (
        "graph-r07-fig3",
        (f"UPDATE {KERNEL} SET start = 0, end = 0 WHERE {SOME}", f"DROP TABLE {RUNTIME}"),
        "has start 0 and end 0",
    ),
    "before its call": (
        "graph-r07-fig3",
        (f"UPDATE {KERNEL} SET start = start - 11000000 WHERE {SOME}",),
        "before the call that launches it",
    ),
    "a range that ends before it starts": (
        "graph-r07-fig3",
        ("UPDATE NVTX_EVENTS SET end = start - 1 WHERE textId = 233",),
        "range 'measure' ends at .*, before its start",
    ),
    # tables and columns
    "NVTX table renamed": (
        "graph-r07-fig3",
        ("ALTER TABLE NVTX_EVENTS RENAME TO NVTX_EVENTS_V2",),
        "no table NVTX_EVENTS .schema 3.7.2., but NVTX_EVENTS_V2",
    ),
    "kernel table renamed": (
        "graph-r07-fig3",
        (f"ALTER TABLE {KERNEL} RENAME TO {KERNEL}_V3",),
        f"no table {KERNEL} .schema 3.7.2., but {KERNEL}_V3",
    ),
    "call table renamed": (
        "graph-r07-fig3",
        (f"ALTER TABLE {RUNTIME} RENAME TO {RUNTIME}_V2",),
        f"no table {RUNTIME} .schema 3.7.2., but {RUNTIME}_V2",
    ),
    "no strings": ("graph-r07-fig3", ("DROP TABLE StringIds",), "no table StringIds .schema 3.7.2"),
    "no GPU": (
        "graph-r07-fig3",
        ("DROP TABLE TARGET_INFO_GPU",),
        "no table TARGET_INFO_GPU .schema 3.7.2",
    ),
    "kernel table lost": ("graph-r07-fig3", (f"DROP TABLE {KERNEL}",), "has no kernels"),
    "no ranges": (
        "graph-r07-fig3",
        ("DROP TABLE NVTX_EVENTS",),
        "no table NVTX_EVENTS .schema 3.7.2.: no NVTX ranges; profile with -t cuda,nvtx",
    ),
    "no kernel and no call": (
        "graph-r07-fig3",
        (f"DROP TABLE {KERNEL}", f"DROP TABLE {RUNTIME}"),
        f"no table {KERNEL} .schema 3.7.2.: no kernel was recorded; profile with -t cuda,nvtx",
    ),
    # marks and foreign ranges
    "marks": (
        "graph-r07-fig3",
        ("UPDATE NVTX_EVENTS SET eventType = 34, end = NULL WHERE eventType = 59",),
        "no kernel in an NVTX range measure",
    ),
    "ranges of a different domain": (
        "graph-r07-fig3",
        ("UPDATE NVTX_EVENTS SET text = 'other' WHERE eventType = 75",),
        "no kernel in an NVTX range measure of the domain gspn2bench",
    ),
    "ranges of the default domain": (
        "graph-r07-fig3",
        ("UPDATE NVTX_EVENTS SET domainId = 0 WHERE eventType = 59",),
        "no kernel in an NVTX range measure of the domain gspn2bench",
    ),
    # launches
    "a launch of eager time lost": (
        "eager-r01-quick",
        (f"DELETE FROM {KERNEL} WHERE {SOME}",),
        "cuLaunchKernelEx at .* has no kernel: the profiler lost it",
    ),
    "a whole call of eager time lost": (
        "eager-r01-quick",
        (f"DELETE FROM {KERNEL} WHERE rowid > 64",),
        "has no kernel: the profiler lost it",
    ),
    "a launch twice": (
        "graph-r07-fig3",
        (f"INSERT INTO {KERNEL} SELECT * FROM {KERNEL} WHERE {SOME}",),
        "row 5: the launch is in the table twice",
    ),
    "calls of different kernels": (
        "graph-r07-fig3",
        (
            f"UPDATE {KERNEL} SET demangledName = 246 WHERE {SOME}",
            f"UPDATE {KERNEL} SET demangledName = 257 WHERE demangledName = 257 AND NOT {SOME}",
        ),
        "call 2 of r07 .* does not launch the kernels of call 1",
    ),
    "a different process": (
        "graph-r07-fig3",
        ("UPDATE NVTX_EVENTS SET globalTid = globalTid + (1 << 24)",),
        "no kernel in an NVTX range measure",
    ),
    # values
    "a time that is a text": (
        "graph-r07-fig3",
        (f"UPDATE {KERNEL} SET end = 'soon' WHERE {SOME}",),
        f"table {KERNEL}, row 4: end is 'soon', not an integer",
    ),
    "a time that is a fraction": (
        "graph-r07-fig3",
        (f"UPDATE {KERNEL} SET end = 14833188.5 WHERE {SOME}",),
        "end is 14833188.5, not an integer",
    ),
    "a name that is bytes": (
        "graph-r07-fig3",
        ("UPDATE StringIds SET value = x'00ff' WHERE id = 233",),
        "table StringIds, row 1: value is b'.x00.xff', not a text",
    ),
    "a name that is not UTF-8": (
        "graph-r07-fig3",
        ("UPDATE StringIds SET value = CAST(x'ff41' AS TEXT) WHERE id = 233",),
        "not an SQLite export of nsys: .*UTF-8",
    ),
    "a process that is missing": (
        "graph-r07-fig3",
        (f"UPDATE {KERNEL} SET globalPid = NULL WHERE {SOME}",),
        "row 4: globalPid is NULL, not an integer",
    ),
    "a thread that is missing": (
        "graph-r07-fig3",
        ("UPDATE NVTX_EVENTS SET globalTid = NULL WHERE eventType = 59",),
        "range 'measure' has no globalTid",
    ),
}

COLUMNS = {
    "NVTX_EVENTS": ("start", "end", "eventType", "text", "textId", "globalTid", "domainId"),
    "StringIds": ("id", "value"),
    "TARGET_INFO_GPU": ("name",),
    RUNTIME: ("start", "correlationId", "globalTid", "nameId"),
    KERNEL: (
        "start",
        "end",
        "correlationId",
        "globalPid",
        "graphNodeId",
        "demangledName",
        "shortName",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_fault_of_a_real_file_is_refused(tmp_path, case):
    name, statements, message = REFUSED[case]
    result = outcome(changed(name, tmp_path / "a.sqlite", statements), run_of(name))
    assert isinstance(result, str), result
    assert re.search(message, result), result
    assert "\n" not in result


@pytest.mark.parametrize(
    ("table", "column"), [(table, column) for table, names in COLUMNS.items() for column in names]
)
def test_a_renamed_column_is_named_with_the_schema(tmp_path, table, column):
    for name in RUNS:
        rename = f'ALTER TABLE {table} RENAME COLUMN "{column}" TO "{column}V2"'
        result = outcome(changed(name, tmp_path / f"{name}.sqlite", [rename]), run_of(name))
        assert isinstance(result, str), result
        assert result.endswith(f"table {table} has no column {column} (schema 3.7.2)")


ACCEPTED = {
    "calls of a different thread": (
        f"UPDATE {RUNTIME} SET globalTid = globalTid + 1 WHERE nameId = 259",
        f"UPDATE {RUNTIME} SET globalTid = globalTid + 2 WHERE nameId = 251",
    ),
    "calls of a different thread, run after the range": (
        f"UPDATE {RUNTIME} SET globalTid = globalTid + 1",
        "UPDATE NVTX_EVENTS SET end = (SELECT max(start) + 1 FROM "
        f"{RUNTIME} WHERE correlationId = 55810) WHERE eventType = 59",
    ),
    "a mark of the same name": (
        "INSERT INTO NVTX_EVENTS (start, eventType, textId, globalTid, domainId) SELECT start, 34, "
        "textId, globalTid, domainId FROM NVTX_EVENTS WHERE eventType = 59",
    ),
    "a foreign range of the same name": (
        "INSERT INTO NVTX_EVENTS (start, end, eventType, text, globalTid, domainId) SELECT "
        "13000000, end, 59, 'N16 C8 1024x1024 float32 r01 forward graph', globalTid, 0 FROM "
        "NVTX_EVENTS WHERE textId = 233",
    ),
    "a launch without times outside the range": (
        f"INSERT INTO {RUNTIME} SELECT 1, 2, eventClass, globalTid, 1, nameId, 0, NULL FROM "
        f"{RUNTIME} WHERE correlationId = 55754",
        f"INSERT INTO {KERNEL} SELECT * FROM {KERNEL} WHERE correlationId = 55754",
        f"UPDATE {KERNEL} SET start = 0, end = 0, correlationId = 1 WHERE {SOME}",
    ),
    "without the calls of the API": (f"DROP TABLE {RUNTIME}",),
    "with a range still open": ("UPDATE NVTX_EVENTS SET end = NULL WHERE eventType = 59",),
    "with newer columns": (
        f"ALTER TABLE {KERNEL} ADD COLUMN graphId INTEGER",
        "UPDATE META_DATA_EXPORT SET value = '3.25.0' WHERE name = 'EXPORT_SCHEMA_VERSION'",
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_variant_of_a_real_file_has_the_same_figures(tmp_path, case):
    name = "graph-r07-fig3"
    file = changed(name, tmp_path / "a.sqlite", ACCEPTED[case])
    assert outcome(file, run_of(name)) == trial(real(name), run_of(name))


def test_a_function_that_is_launched_on_the_cpu_has_no_kernel(tmp_path):
    name = "eager-r01-quick"
    statements = (
        "INSERT INTO StringIds VALUES (9000, 'cudaLaunchHostFunc_v10000')",
        f"INSERT INTO {RUNTIME} SELECT start, end, eventClass, globalTid, 1, 9000, 0, NULL FROM "
        f"{RUNTIME} WHERE correlationId = 3880",
    )
    file = changed(name, tmp_path / "a.sqlite", statements)
    assert outcome(file, run_of(name)) == trial(real(name), run_of(name))
