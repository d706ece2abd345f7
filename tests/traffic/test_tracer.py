"""The tracer against tiny kernels counted by hand, and against what each rung promises."""

import time
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numba import cuda

from gspn2bench.kernels import jit
from gspn2bench.kernels.contract import Operands
from gspn2bench.kernels.jit import SIMULATED, Array, bound, device_function, flat, kernel
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.problem import PHASES, DType, Phase, ScanProblem
from gspn2bench.traffic.tracer import SCRATCH, Trace, Traffic, trace
from gspn2bench.workload import inputs

pytestmark = pytest.mark.skipif(not SIMULATED, reason="only the simulator can be traced")

WARP = 32


def traced(compiled: Any, *arguments: Any, grid: int = 1, block: int = WARP) -> Traffic:
    return trace(bound(compiled, grid, block, *arguments), {}).total


def floats(count: int = 4096, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.arange(count, dtype=dtype)


@kernel("gather")
def gather(source: Array, out: Array, stride: int, offset: int, lanes: int) -> None:
    lane = cuda.threadIdx.x
    if lane < lanes:
        value = source[np.uint64(lane * stride + offset)]
        if value < 0:  # never: the test is of loads
            out[0] = value


@pytest.mark.parametrize(
    ("stride", "offset", "lanes", "dtype", "sectors"),
    [
        (1, 0, 32, torch.float32, 4),  # 128 adjacent bytes
        (1, 1, 32, torch.float32, 5),  # the same, one element on
        (1, 8, 32, torch.float32, 4),  # a whole sector on
        (64, 0, 32, torch.float32, 32),  # a row apart
        (8, 0, 32, torch.float32, 32),  # a sector apart
        (4, 0, 32, torch.float32, 16),
        (0, 5, 32, torch.float32, 1),  # one element for all
        (1, 0, 16, torch.float32, 2),  # half of the warp
        (1, 0, 1, torch.float32, 1),
        (1, 0, 32, torch.float16, 2),
        (1, 1, 32, torch.float16, 3),
        (1, 0, 32, torch.float64, 8),
    ],
)
def test_sectors_of_one_load(
    stride: int, offset: int, lanes: int, dtype: torch.dtype, sectors: int
) -> None:
    source, out = floats(dtype=dtype), floats(1, dtype)
    found = traced(gather, flat(source), flat(out), stride, offset, lanes)
    assert (found.load_requests, found.load_sectors) == (1, sectors)
    assert found.sectors_per_load == sectors
    different = len({lane * stride for lane in range(lanes)})
    assert found.read_bytes == found.touched_bytes == different * dtype.itemsize
    assert found.reread_bytes == 0
    assert (found.store_requests, found.store_sectors, found.written_bytes) == (0, 0, 0)
    assert found.sectors_per_store is None


def test_two_columns_in_one_word_are_one_access() -> None:
    halves = floats(64, torch.bfloat16)
    found = traced(gather, flat(halves, 4), flat(halves, 4), 1, 0, WARP)
    assert (found.load_requests, found.load_sectors, found.read_bytes) == (1, 4, 128)


def test_planes_keep_their_place_in_their_tensor() -> None:
    w = floats(3 * 36).view(3, 36)  # the second plane begins in the middle of a sector
    call = bound(gather, 1, WARP, flat(w[1]), flat(w), 1, 0, WARP)
    found = trace(call, {"x": floats(), "w": w})
    assert found.total.load_sectors == 5
    assert list(found.operands) == ["w"]


@kernel("copy")
def copy(source: Array, out: Array, count: int) -> None:
    at = cuda.grid(1)
    if at < count:
        out[at] = source[at]


def test_loads_stores_warps_and_blocks() -> None:
    source, out = floats(300), torch.zeros(300)
    call = bound(copy, 5, 2 * WARP, flat(source), flat(out), 300)
    found = trace(call, {"source": source})
    assert torch.equal(source, out)
    # 300 elements: nine warps of 32 and one of 12, which has a sector and a half
    expected = Traffic(10, 9 * 4 + 2, 10, 9 * 4 + 2, 1200, 1200, 2400, 0)
    assert found.total == expected
    assert found.total.sector_bytes == 32 * 76
    assert found.launches == 1
    assert found.operands["source"] == Traffic(10, 38, 0, 0, 1200, 0, 1200, 0)
    assert found.operands[SCRATCH] == Traffic(0, 0, 10, 38, 0, 1200, 1200, 0)


def test_launches_are_not_mixed() -> None:
    source, out = floats(32), floats(32)

    def call() -> None:
        for _ in range(3):
            bound(copy, 1, WARP, flat(source), flat(out), 32)()

    found = trace(call, {})
    assert found.launches == 3
    assert (found.total.load_requests, found.total.load_sectors) == (3, 12)
    assert (found.total.read_bytes, found.total.reread_bytes) == (128, 256)


def test_a_launch_outside_is_as_it_was() -> None:
    source, out = floats(32), torch.zeros(32)
    traced(copy, flat(source), flat(out), 32)
    out.zero_()
    with jit.counting_launches() as count:
        bound(copy, 1, WARP, flat(source), flat(out), 32)()
    assert count.launches == 1
    assert torch.equal(source, out)
    assert "range" not in globals()


@kernel("branches")
def branches(source: Array, out: Array) -> None:
    lane = cuda.threadIdx.x
    total = source[lane]
    if lane < 16:
        total += source[lane + 32]
    else:
        total += source[lane + 64]
    out[lane] = total + source[lane]


def test_both_sides_of_a_branch_are_requests_and_the_warp_comes_together_again() -> None:
    found = traced(branches, flat(floats(128)), flat(floats(WARP)))
    assert (found.load_requests, found.load_sectors) == (4, 4 + 2 + 2 + 4)
    assert (found.store_requests, found.store_sectors) == (1, 4)
    assert found.reread_bytes == 128


@kernel("ragged_loops")
def ragged_loops(source: Array, out: Array, turns: int) -> None:
    lane = cuda.threadIdx.x
    for line in range(2):
        for turn in range(turns - (lane >= 16)):
            if (lane + turn) % 2 == 0:
                out[lane] = source[(line * turns + turn) * WARP + lane]


def test_lanes_that_skip_turns_of_a_loop_do_not_slip_into_another() -> None:
    found = traced(ragged_loops, flat(floats(512)), flat(floats(WARP)), 3)
    # of each line: every second lane in turns 0 and 1, of half a warp in turn 2
    assert (found.load_requests, found.load_sectors) == (6, 2 * (4 + 4 + 2))
    assert found.store_sectors == found.load_sectors


@device_function
def deep(array: Array, at: int) -> Any:
    return array[at]


@device_function
def deeper(array: Array, at: int) -> Any:
    return deep(array, at)


@kernel("calls")
def calls(source: Array, out: Array) -> None:
    lane = cuda.threadIdx.x
    if lane < 4:
        out[lane] = deeper(source, lane + 64)
    out[lane] = deeper(source, lane) + deep(source, lane)


def test_a_device_function_is_a_site_for_each_way_to_it() -> None:
    found = traced(calls, flat(floats(128)), flat(floats(WARP)))
    assert (found.load_requests, found.load_sectors) == (3, 1 + 4 + 4)
    assert (found.store_requests, found.store_sectors) == (2, 1 + 4)


@kernel("many_turns")
def many_turns(source: Array, out: Array, turns: int) -> None:
    lane, turn = cuda.threadIdx.x, 0
    while turn < turns:
        out[lane] = source[turn * WARP + lane]
        turn += 1


def test_a_site_is_the_same_after_the_interpreter_has_specialised_it() -> None:
    found = traced(many_turns, flat(floats(50 * WARP)), flat(floats(WARP)), 50)
    assert (found.load_requests, found.load_sectors) == (50, 200)
    assert (found.store_requests, found.store_sectors) == (50, 200)


@kernel("plane")
def plane(source: Array, out: Array) -> None:
    lane = cuda.threadIdx.x
    row = source[lane % source.shape[0]]
    out[lane] = row[-1] + source[lane % 4, 7] + len(row)


def test_arrays_of_two_dimensions_and_indices_from_the_end() -> None:
    source, out = floats(32).view(4, 8), torch.zeros(WARP)
    found = traced(plane, source.numpy(), flat(out))
    assert out[:4].tolist() == [7 + 7 + 8, 15 + 15 + 8, 23 + 23 + 8, 31 + 31 + 8]
    assert (found.load_requests, found.load_sectors, found.read_bytes) == (2, 8, 16)


def test_out_of_bounds_is_an_error_and_leaves_nothing_behind() -> None:
    with pytest.raises(IndexError):
        traced(gather, flat(floats(8)), flat(floats(8)), 1, 0, WARP)
    with jit.counting_launches():
        pass
    assert "range" not in globals()


def trace_rung(rung_id: str, problem: ScanProblem, seed: int = 0) -> Trace:
    operands = inputs.make(problem, "cpu", seed)
    return trace(LADDER[rung_id].bind(problem, operands), tensors(operands))


def tensors(operands: Operands) -> dict[str, torch.Tensor]:
    named = {field.name: getattr(operands, field.name) for field in fields(operands)}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def test_r01_takes_a_sector_for_each_row_and_r07_four_for_a_warp() -> None:
    height, width = 24, 32
    r01 = trace_rung("r01", ScanProblem(1, 1, height, width, direction="right")).total
    assert r01.sectors_per_load is not None
    assert height - 1 < r01.sectors_per_load < height
    assert r01.sectors_per_store == height
    r07 = trace_rung("r07", ScanProblem(1, 1, height, width)).total
    assert r07.sectors_per_load == r07.sectors_per_store == 4
    assert r01.read_bytes == r07.read_bytes + 4 * height * (width - 1)  # h, all but a column
    # h of the column before: the middle again, and each neighbour but one
    assert r01.reread_bytes == 4 * (width - 1) * 2 * (height - 1)
    assert r07.reread_bytes == 0


NCU = {  # of N16 C8 1024x1024 on an H200: docs/measured/traffic.md
    "r02": (33_542_144, 1_073_086_720, 134_217_728),
    "r03": (33_542_144, 142_287_104, 16_777_216),
    "r04": (20_971_520, 83_886_080, 16_777_216),
    "r05": (20_971_520, 83_886_080, 16_777_216),
}
"""Load requests, their sectors, sectors of the stores."""


def rule(rung_id: str, slices: int, steps: int, line: int) -> tuple[int, int, int]:
    """The same of any case whose line is whole warps, by what the kernels' source asks for."""
    warps = line // WARP
    stores = slices * steps * warps
    later = slices * (steps - 1) * warps  # those with a line before theirs
    loads, wide = 5 * stores, 32 if rung_id == "r02" else 4
    sectors = wide * loads
    if rung_id in ("r02", "r03"):  # h of the line before, from global memory: the middle, and
        loads += 3 * later  # either neighbour, which reaches into one more sector but at the border
        sectors += wide * later
        border = slices * (steps - 1)
        sectors += 2 * (32 * later - border) if rung_id == "r02" else 2 * (5 * later - border)
    return loads, sectors, wide * stores


@pytest.mark.parametrize("rung_id", list(NCU))
def test_the_tracer_goes_by_the_rule_that_a_gpus_counters_go_by(rung_id: str) -> None:
    assert rule(rung_id, 128, 1024, 1024) == NCU[rung_id]
    right = rung_id == "r02"
    # rows of r02 are as long as its steps, and the rule is for rows of whole sectors
    for steps, line in ((8, 32), (8, 64)) if right else ((3, 32), (2, 64), (5, 96)):
        size = (line, steps) if right else (steps, line)
        problem = ScanProblem(1, 2, *size, direction="right" if right else "down")
        found = trace_rung(rung_id, problem).total
        counted = (found.load_requests, found.load_sectors, found.store_sectors)
        assert counted == rule(rung_id, 2, steps, line)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("dtype", "width"), [("float32", 37), ("float16", 34), ("bfloat16", 9)])
@pytest.mark.parametrize("chunk", [None, 3])
def test_r07_touches_the_compulsory_bytes_once(
    phase: Phase, dtype: DType, width: int, chunk: int | None
) -> None:
    problem = ScanProblem(1, 2, 5, width, dtype=dtype, phase=phase, chunk=chunk)
    found = trace_rung("r07", problem).total
    # the last h of a chunk is a neighbour of nothing, so that backward has no use for it
    unread = problem.slices * problem.chunks * problem.line * problem.item_bytes
    assert found.touched_bytes == problem.compulsory_bytes - unread * (phase == "backward")
    assert found.reread_bytes == 0


def test_scratch_is_told_apart_from_operands() -> None:
    problem = ScanProblem(1, 2, 6, 11, direction="right")  # odd: transposed
    found = trace_rung("r07", problem)
    assert found.launches == LADDER["r07"].launches(problem)
    for name in ("x", "lam", "w"):
        assert found.operands[name].read_bytes == tensor_bytes(problem, name)
        assert found.operands[name].store_requests == 0
    assert found.operands["h"].written_bytes == tensor_bytes(problem, "h")
    assert found.operands[SCRATCH].touched_bytes == problem.compulsory_bytes
    for field in fields(Traffic):
        parts = [asdict(part)[field.name] for part in found.operands.values()]
        assert sum(parts) == asdict(found.total)[field.name]


def tensor_bytes(problem: ScanProblem, name: str) -> int:
    return 4 * problem.slices * problem.plane * (3 if name == "w" else 1)


def test_lines_longer_than_a_block_stay_in_step() -> None:
    """Each line takes two turns of 1024 threads, the second of 2: only warp 0 is in it."""
    problem = ScanProblem(1, 1, 2, 1026)
    found = trace_rung("r03", problem).total
    warps = 32 + 1
    middle, left, right = warps, warps, warps  # of the second line, from the first
    assert found.load_requests == 5 * 2 * warps + middle + left + right
    assert found.store_requests == 2 * warps


def test_the_same_trace_again() -> None:
    problem = ScanProblem(1, 2, 7, 33, phase="backward")
    traces = [trace_rung("r03", problem, seed) for seed in range(3)]
    assert all(a == b for a, b in pairwise(traces))


@pytest.mark.parametrize("rung_id", ["r01", "r07"])
def test_a_case_of_two_slices_traces_within_20_seconds(rung_id: str) -> None:
    rung = LADDER[rung_id]
    start = time.perf_counter()
    trace_rung(rung_id, ScanProblem(1, 2, 32, 64, direction=rung.native))
    assert time.perf_counter() - start < 20
