"""The tracer on tiny kernels counted by hand, and on the rungs of the ladder."""

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numba import cuda

from gspn2bench.kernels import jit
from gspn2bench.kernels.jit import SIMULATED, Array, bind_launch, device_function, flat, kernel
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.problem import PHASES, DType, Phase, ScanProblem
from gspn2bench.traffic import tracer
from gspn2bench.traffic.tracer import Trace, Traffic, trace
from gspn2bench.workload import inputs

pytestmark = pytest.mark.skipif(not SIMULATED, reason="only the simulator can be traced")

WARP = 32


def traced(compiled: Any, *arguments: Any, grid: int = 1, block: int = WARP) -> Traffic:
    return trace(bind_launch(compiled, grid, block, *arguments)).total


def floats(count: int = 4096, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.arange(count, dtype=dtype)


@kernel("gather")
def gather(source: Array, out: Array, stride: int, offset: int, lanes: int) -> None:
    lane = cuda.threadIdx.x
    if lane < lanes:
        value = source[np.uint64(lane * stride + offset)]
        if value < 0:  # never true; keeps the load
            out[0] = value


@pytest.mark.parametrize(
    ("stride", "offset", "lanes", "dtype", "sectors"),
    [
        (1, 0, 32, torch.float32, 4),  # 128 adjacent bytes
        (1, 1, 32, torch.float32, 5),  # offset by one element
        (1, 8, 32, torch.float32, 4),  # offset by one sector
        (64, 0, 32, torch.float32, 32),  # lanes a row apart
        (8, 0, 32, torch.float32, 32),  # lanes a sector apart
        (4, 0, 32, torch.float32, 16),
        (0, 5, 32, torch.float32, 1),  # one element for all lanes
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
    result = traced(gather, flat(source), flat(out), stride, offset, lanes)
    assert (result.load_requests, result.load_sectors) == (1, sectors)
    different = len({lane * stride for lane in range(lanes)})
    assert result.read_bytes == result.touched_bytes == different * dtype.itemsize
    assert result.reread_bytes == 0
    assert (result.store_requests, result.store_sectors, result.written_bytes) == (0, 0, 0)


def test_two_columns_in_one_word_are_one_access() -> None:
    halves = floats(64, torch.bfloat16)
    result = traced(gather, flat(halves, 4), flat(halves, 4), 1, 0, WARP)
    assert (result.load_requests, result.load_sectors, result.read_bytes) == (1, 4, 128)


@kernel("overlapping")
def overlapping(bytes_4: Array, bytes_8: Array, out_4: Array, out_8: Array) -> None:
    lane = np.uint64(cuda.threadIdx.x)
    if lane < 4:  # 32 bytes as 8-byte words, and the second half of them as 4-byte words
        out_8[lane] = bytes_8[lane]
        out_4[np.uint64(lane + np.uint64(4))] = bytes_4[np.uint64(lane + np.uint64(4))]


def test_words_of_different_sizes_that_overlap_are_counted_once() -> None:
    source, out = floats(64), torch.zeros(64)
    arrays = flat(source), flat(source, 8), flat(out), flat(out, 8)
    traffic = traced(overlapping, *arrays)
    assert (traffic.load_requests, traffic.store_requests) == (2, 2)
    assert (traffic.read_bytes, traffic.written_bytes, traffic.touched_bytes) == (32, 32, 64)
    assert traffic.reread_bytes == 16


def test_a_word_that_crosses_a_sector_touches_both() -> None:
    assert tracer._sectors([(28, 4)]) == tracer._sectors([(32, 8)]) == 1
    assert tracer._sectors([(28, 8)]) == tracer._sectors([(28, 4), (32, 4)]) == 2


def test_a_word_inside_a_longer_one_does_not_shorten_it() -> None:
    words = [(0, 16), (4, 4), (8, 4), (14, 4), (18, 2), (32, 4), (32, 8)]
    for order in (words, words[::-1]):
        assert tracer._distinct_bytes(order) == 20 + 8


def test_planes_keep_their_offset_in_their_tensor() -> None:
    w = floats(3 * 36).view(3, 36)  # the second plane begins in the middle of a sector
    call = bind_launch(gather, 1, WARP, flat(w[1]), flat(w), 1, 0, WARP)
    assert trace(call).total.load_sectors == 5


@kernel("copy")
def copy(source: Array, out: Array, count: int) -> None:
    index = cuda.grid(1)
    if index < count:
        out[index] = source[index]


def test_loads_stores_warps_and_blocks() -> None:
    source, out = floats(300), torch.zeros(300)
    call = bind_launch(copy, 5, 2 * WARP, flat(source), flat(out), 300)
    result = trace(call)
    assert torch.equal(source, out)
    # 300 elements: nine warps of 32, and one of 12 lanes, which touches two sectors
    expected = Traffic(10, 9 * 4 + 2, 10, 9 * 4 + 2, 1200, 1200, 2400, 0)
    assert result.total == expected
    assert result.total.sector_bytes == 32 * 76
    assert result.launches == 1


def test_launches_are_separate() -> None:
    source, out = floats(32), floats(32)

    def call() -> None:
        for _ in range(3):
            bind_launch(copy, 1, WARP, flat(source), flat(out), 32)()

    result = trace(call)
    assert result.launches == 3
    assert (result.total.load_requests, result.total.load_sectors) == (3, 12)
    assert (result.total.read_bytes, result.total.reread_bytes) == (128, 256)


def test_a_launch_after_a_trace_is_not_recorded() -> None:
    source, out = floats(32), torch.zeros(32)
    traced(copy, flat(source), flat(out), 32)
    out.zero_()
    with jit.counting_launches() as count:
        bind_launch(copy, 1, WARP, flat(source), flat(out), 32)()
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


def test_both_sides_of_a_branch_are_requests_and_the_warp_reconverges() -> None:
    result = traced(branches, flat(floats(128)), flat(floats(WARP)))
    assert (result.load_requests, result.load_sectors) == (4, 4 + 2 + 2 + 4)
    assert (result.store_requests, result.store_sectors) == (1, 4)
    assert result.reread_bytes == 128


@kernel("ragged_loops")
def ragged_loops(source: Array, out: Array, iterations: int) -> None:
    lane = cuda.threadIdx.x
    for line in range(2):
        for i in range(iterations - (lane >= 16)):
            if (lane + i) % 2 == 0:
                out[lane] = source[(line * iterations + i) * WARP + lane]


def test_lanes_that_skip_iterations_join_no_other_iteration() -> None:
    result = traced(ragged_loops, flat(floats(512)), flat(floats(WARP)), 3)
    # per line: every second lane in iterations 0 and 1, and of half a warp in iteration 2
    assert (result.load_requests, result.load_sectors) == (6, 2 * (4 + 4 + 2))
    assert result.store_sectors == result.load_sectors


@device_function
def deep(array: Array, index: int) -> Any:
    return array[index]


@device_function
def deeper(array: Array, index: int) -> Any:
    return deep(array, index)


@kernel("calls")
def calls(source: Array, out: Array) -> None:
    lane = cuda.threadIdx.x
    if lane < 4:
        out[lane] = deeper(source, lane + 64)
    out[lane] = deeper(source, lane) + deep(source, lane)


def test_a_device_function_is_one_site_per_chain_of_calls() -> None:
    result = traced(calls, flat(floats(128)), flat(floats(WARP)))
    assert (result.load_requests, result.load_sectors) == (3, 1 + 4 + 4)
    assert (result.store_requests, result.store_sectors) == (2, 1 + 4)


@kernel("long_loop")
def long_loop(source: Array, out: Array, iterations: int) -> None:
    lane, i = cuda.threadIdx.x, 0
    while i < iterations:
        out[lane] = source[i * WARP + lane]
        i += 1


def test_a_site_is_the_same_after_the_interpreter_has_specialised_it() -> None:
    result = traced(long_loop, flat(floats(50 * WARP)), flat(floats(WARP)), 50)
    assert (result.load_requests, result.load_sectors) == (50, 200)
    assert (result.store_requests, result.store_sectors) == (50, 200)


@kernel("plane")
def plane(source: Array, out: Array) -> None:
    lane = cuda.threadIdx.x
    row = source[lane % source.shape[0]]
    out[lane] = row[-1] + source[lane % 4, 7] + len(row)


def test_two_dimensional_arrays_and_negative_indices() -> None:
    source, out = floats(32).view(4, 8), torch.zeros(WARP)
    result = traced(plane, source.numpy(), flat(out))
    assert out[:4].tolist() == [7 + 7 + 8, 15 + 15 + 8, 23 + 23 + 8, 31 + 31 + 8]
    assert (result.load_requests, result.load_sectors, result.read_bytes) == (2, 8, 16)


def test_an_index_out_of_bounds_is_an_error_and_ends_the_trace() -> None:
    with pytest.raises(IndexError):
        traced(gather, flat(floats(8)), flat(floats(8)), 1, 0, WARP)
    with jit.counting_launches():
        pass
    assert "range" not in globals()


def trace_rung(rung_id: str, problem: ScanProblem, seed: int = 0) -> Trace:
    operands = inputs.make(problem, "cpu", seed)
    return trace(LADDER[rung_id].bind(problem, operands))


def test_r01_takes_one_sector_per_row_and_r07_four_per_warp() -> None:
    height, width = 24, 32
    r01 = trace_rung("r01", ScanProblem(1, 1, height, width, direction="right")).total
    assert height - 1 < r01.load_sectors / r01.load_requests < height
    assert r01.store_sectors == height * r01.store_requests
    r07 = trace_rung("r07", ScanProblem(1, 1, height, width)).total
    assert r07.load_sectors == 4 * r07.load_requests
    assert r07.store_sectors == 4 * r07.store_requests
    assert r01.read_bytes == r07.read_bytes + 4 * height * (width - 1)  # h, except its last column
    # h of the previous column is loaded three times: twice again, each time without one row
    assert r01.reread_bytes == 4 * (width - 1) * 2 * (height - 1)
    assert r07.reread_bytes == 0


NCU = {  # N16 C8 1024x1024 on an H200: docs/measured/traffic.md
    "r02": (33_542_144, 1_073_086_720, 134_217_728),
    "r03": (33_542_144, 142_287_104, 16_777_216),
    "r04": (20_971_520, 83_886_080, 16_777_216),
    "r05": (20_971_520, 83_886_080, 16_777_216),
}
"""Load requests, load sectors and store sectors, counted by ncu."""


def rule(rung_id: str, slices: int, steps: int, line: int) -> tuple[int, int, int]:
    """The same counts derived from the kernels' source, for lines of whole warps."""
    warps = line // WARP
    stores = slices * steps * warps
    later = slices * (steps - 1) * warps  # with a previous line
    loads, wide = 5 * stores, 32 if rung_id == "r02" else 4
    sectors = wide * loads
    if rung_id in ("r02", "r03"):
        # h of the previous line comes from global memory, in three loads. The two loads of
        # neighbours touch one more sector each, except at the border.
        loads += 3 * later
        sectors += wide * later
        border = slices * (steps - 1)
        sectors += 2 * (32 * later - border) if rung_id == "r02" else 2 * (5 * later - border)
    return loads, sectors, wide * stores


@pytest.mark.parametrize("rung_id", list(NCU))
def test_traced_counts_and_ncu_counts_follow_the_same_rule(rung_id: str) -> None:
    assert rule(rung_id, 128, 1024, 1024) == NCU[rung_id]
    horizontal = rung_id == "r02"
    # a row of r02 has one element per step; the rule needs rows of whole sectors
    for steps, line in ((8, 32), (8, 64)) if horizontal else ((3, 32), (2, 64), (5, 96)):
        size = (line, steps) if horizontal else (steps, line)
        problem = ScanProblem(1, 2, *size, direction="right" if horizontal else "down")
        result = trace_rung(rung_id, problem).total
        counted = (result.load_requests, result.load_sectors, result.store_sectors)
        assert counted == rule(rung_id, 2, steps, line)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("dtype", "width"), [("float32", 37), ("float16", 34), ("bfloat16", 9)])
@pytest.mark.parametrize("chunk", [None, 3])
def test_r07_touches_the_compulsory_bytes_once(
    phase: Phase, dtype: DType, width: int, chunk: int | None
) -> None:
    problem = ScanProblem(1, 2, 5, width, dtype=dtype, phase=phase, chunk=chunk)
    result = trace_rung("r07", problem).total
    # backward does not read the last line of h of a chunk: no later line depends on it
    unread = problem.slices * problem.chunks * problem.line * problem.item_bytes
    assert result.touched_bytes == problem.compulsory_bytes - unread * (phase == "backward")
    assert result.reread_bytes == 0


def test_scratch_is_counted_with_the_operands() -> None:
    """The transposed copies are as large as the operands; both are read and both are written."""
    problem = ScanProblem(1, 2, 6, 11, direction="right")  # odd: transposed
    result = trace_rung("r07", problem)
    assert result.launches == LADDER["r07"].launches(problem)
    tensor = 4 * problem.slices * problem.plane
    assert problem.compulsory_bytes == 6 * tensor  # x, lam, the three planes of w, and h
    assert result.total.touched_bytes == 2 * problem.compulsory_bytes
    # the operands and their copies are read; the copies and h are written
    assert result.total.read_bytes == (5 + 6) * tensor
    assert result.total.written_bytes == (6 + 1) * tensor


def test_lanes_stay_in_step_on_lines_longer_than_a_block() -> None:
    """Each line takes two iterations of 1024 threads. The second has 2 elements, all in warp 0."""
    problem = ScanProblem(1, 1, 2, 1026)
    result = trace_rung("r03", problem).total
    warps = 32 + 1
    middle, left, right = warps, warps, warps  # h of the first line, read for the second
    assert result.load_requests == 5 * 2 * warps + middle + left + right
    assert result.store_requests == 2 * warps


def test_traces_are_reproducible() -> None:
    problem = ScanProblem(1, 2, 7, 33, phase="backward")
    traces = [trace_rung("r03", problem, seed) for seed in range(3)]
    assert all(a == b for a, b in pairwise(traces))


@pytest.mark.parametrize("rung_id", ["r01", "r07"])
def test_a_case_of_two_slices_traces_within_20_seconds(rung_id: str) -> None:
    rung = LADDER[rung_id]
    start = time.process_time()  # of this process; the machine may be busy
    trace_rung(rung_id, ScanProblem(1, 2, 32, 64, direction=rung.native))
    assert time.process_time() - start < 20
