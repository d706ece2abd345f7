"""The ladder's whole matrix: both phases, four directions, chunks, weights, storage types.

Geometries are given as (batch, channels, steps, line, chunk) and turned to fit the direction, so
that a scan of 5 lines stays one of 5 lines whichever way it runs.
"""

import importlib
import sys
import types
from dataclasses import replace
from importlib import resources
from itertools import product
from typing import Any

import pytest
import torch

from gspn2bench.kernels import (
    block_rung,
    launch_limits,
    r01_line_launch,
    r05_block2d,
    transposed,
)
from gspn2bench.kernels.contract import Operands, Rung
from gspn2bench.kernels.jit import SIMULATED, counting_launches
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.kernels.r06_compact import shape as r06_shape
from gspn2bench.kernels.r07_gspn2 import columns, configuration
from gspn2bench.measure import launches
from gspn2bench.problem import (
    DIRECTIONS,
    DTYPES,
    PHASES,
    Direction,
    DType,
    Phase,
    ScanProblem,
    Weights,
)
from gspn2bench.workload import gate, inputs

Geometry = tuple[int, int, int, int, int | None]

VERTICAL = [rung_id for rung_id, rung in LADDER.items() if rung.native == "down"]
STEPS = ("r06a", "r06b", "r06c")
"""Steps between r06 and r07: forward only, lines of up to 1024 columns."""
IN_PHASES: list[tuple[str, Phase]] = [
    (rung_id, phase)
    for rung_id, phase in product(LADDER, PHASES)
    if phase == "forward" or rung_id not in STEPS
]
"""Every rung in the phases that it has."""


def oriented(geometry: Geometry, direction: Direction, phase: Phase) -> ScanProblem:
    """The problem of a geometry whose lines run across the direction."""
    batch, channels, steps, line, chunk = geometry
    height, width = (steps, line) if direction in ("down", "up") else (line, steps)
    return ScanProblem(batch, channels, height, width, "float32", direction, chunk, phase=phase)


def taken(rung: Rung, problem: ScanProblem) -> ScanProblem | None:
    """The problem with weights that the rung takes, or None if it takes it with neither."""
    choices = (problem, replace(problem, weights="shared"))
    return next((choice for choice in choices if rung.skip_reason(choice) is None), None)


def wild(problem: ScanProblem, device: str) -> Operands:
    """Operands whose weights point outside the line too: a kernel must take those as zero."""
    operands = inputs.make(problem, device, seed=5)
    operands.w.uniform_(-0.5, 0.5, generator=torch.Generator(device).manual_seed(6))
    return operands


def verdict_of(rung: Rung, problem: ScanProblem, device: str) -> gate.GateResult:
    """The gate's verdict; what the kernel may not do besides is asserted."""
    operands = wild(problem, device)
    kept = inputs.clone(operands)
    call = rung.bind(problem, operands)
    if SIMULATED:
        with counting_launches() as count:
            verdict = gate.check(problem, operands, call)
        seen = count.launches
    else:
        verdict = gate.check(problem, operands, call)
        seen = launches.count_launches(call)
    assert seen == rung.launches(problem)
    read = ("x", "lam", "w") if problem.phase == "forward" else ("x", "lam", "w", "h", "grad_h")
    for name in read:
        assert torch.equal(getattr(operands, name), getattr(kept, name)), f"{name} was written"
    return verdict


def hold(rung: Rung, problem: ScanProblem, device: str) -> None:
    verdict = verdict_of(rung, problem, device)
    assert verdict.passed, f"{problem}: {verdict.reason}"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one warp: a line of 33 is longer than a block."""
    monkeypatch.setattr(launch_limits, "MAX_THREADS", 32)
    monkeypatch.setattr(r06_shape, "MAX_THREADS", 32)
    monkeypatch.setattr(r06_shape, "BLOCK_THREADS", 32)


def with_blocks(rung_id: str, lanes: int, cslice: int, monkeypatch: pytest.MonkeyPatch) -> Rung:
    """r05 or r06 with blocks of a given shape."""

    def choose(problem: ScanProblem) -> block_rung.Block:
        return block_rung.block_of(problem, lanes, cslice)

    if rung_id == "r06":
        monkeypatch.setattr(r06_shape, "choose", choose)
        return LADDER["r06"]
    return block_rung.block_rung(
        id="r05",
        title="",
        idea="",
        source="",
        build_forward=r05_block2d.build_forward,
        build_backward=r05_block2d.build_backward,
        neighbours="shared",
        choose=choose,
        sizes=r05_block2d.sizes,
    )


TINY: list[Geometry] = [
    (1, 2, 5, 2, 2),  # the last chunk is shorter
    (2, 1, 2, 33, None),
    (1, 1, 3, 31, 1),
    (1, 3, 9, 1, 7),
]


@pytest.mark.parametrize(
    ("rung_id", "phase", "geometry"),
    [(*each, geometry) for each, geometry in product(IN_PHASES, TINY) if each[0] != "r01"],
)
def test_chunks(rung_id: str, phase: Phase, geometry: Geometry, device: str) -> None:
    rung = LADDER[rung_id]
    # Turn about, so that both signs are tried without trying everything twice.
    up = rung.native == "down" and geometry[2] % 2 == (phase == "forward")
    problem = taken(rung, oriented(geometry, "up" if up else rung.native, phase))
    assert problem is not None
    hold(rung, problem, device)


@pytest.mark.parametrize("geometry", [(1, 2, 3, 4, None), (2, 1, 1, 33, None), (1, 2, 4, 1, None)])
def test_r01_backward(geometry: Geometry, device: str) -> None:
    hold(r01_line_launch.RUNG, oriented(geometry, "right", "backward"), device)


@pytest.mark.parametrize(
    ("rung_id", "phase", "direction"),
    [
        (*each, direction)
        for each, direction in product(IN_PHASES, ("right", "left"))
        if each[0] in VERTICAL
    ],
)
def test_transposed_directions(
    rung_id: str, phase: Phase, direction: Direction, device: str, small_transposes: None
) -> None:
    problem = taken(LADDER[rung_id], oriented((1, 1, 3, 4, 2), direction, phase))
    assert problem is not None
    hold(LADDER[rung_id], problem, device)


@pytest.mark.parametrize("direction", ["right", "left"])
@pytest.mark.parametrize(
    ("height", "width", "chunk", "weights"),
    [
        (3, 2, None, "channel"),
        (70, 18, 4, "shared"),  # two warps, the second with rows outside the plane
        (33, 16, None, "shared"),
    ],
)
def test_r07_takes_columns_as_they_lie(
    height: int,
    width: int,
    chunk: int | None,
    weights: Weights,
    direction: Direction,
    device: str,
) -> None:
    problem = ScanProblem(1, 2, height, width, direction=direction, chunk=chunk, weights=weights)
    assert columns.fits(problem)
    assert LADDER["r07"].launches(problem) == 1
    assert LADDER["r07"].traffic(problem) == problem.compulsory_bytes
    hold(LADDER["r07"], problem, device)


SHARED: list[tuple[str, Phase]] = [
    (rung_id, phase)
    for rung_id, phase in IN_PHASES
    if LADDER[rung_id].skip_reason(
        ScanProblem(2, 2, 3, 4, direction=LADDER[rung_id].native, weights="shared", phase=phase)
    )
    is None
]
"""Every rung that takes shared weights, in the phases in which it does."""


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize(("rung_id", "phase"), SHARED)
def test_shared_weights_of_several_images(
    rung_id: str, phase: Phase, chunk: int | None, device: str
) -> None:
    """Every image has its own weights, and its own sums over the channels."""
    problem = oriented((2, 2, 3, 4, chunk), "down", phase)
    hold(LADDER[rung_id], replace(problem, weights="shared"), device)


@pytest.mark.parametrize(("direction", "chunk"), [("right", None), ("left", 2)])
def test_columns_with_shared_weights_of_several_images(
    direction: Direction, chunk: int | None, device: str
) -> None:
    problem = replace(oriented((2, 2, 4, 3, chunk), direction, "forward"), weights="shared")
    assert columns.fits(problem)
    hold(LADDER["r07"], problem, device)


@pytest.mark.parametrize("offset", [-1, 0, 1])
@pytest.mark.parametrize("phase", PHASES)
def test_lines_around_two_rings_of_r07(phase: Phase, offset: int, device: str) -> None:
    """The main loop ends a ring before the last line; one pass more would load lines beyond."""
    depth = configuration.choose(oriented((1, 1, 99, 3, None), "down", phase)).depth
    for rings in (1, 2):
        hold(
            LADDER["r07"],
            oriented((1, 1, rings * depth + offset, 3, None), "down", phase),
            device,
        )


@pytest.mark.parametrize(
    "change",
    [
        {"direction": "down"},
        {"phase": "backward"},
        {"dtype": "float16"},
        {"width": 17},
        {"chunk": 3},
        {"height": 513},
    ],
)
def test_columns_that_do_not_fit_are_transposed(change: dict[str, Any]) -> None:
    problem = ScanProblem(1, 1, 8, 16, direction="right")
    assert columns.fits(problem)
    assert not columns.fits(replace(problem, **change))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 33, 40), "float32"), ((3, 1, 5), "float16"), ((1, 1, 32, 31), "bfloat16")],
)
def test_a_transpose_moves_every_element(shape: tuple[int, ...], dtype: DType, device: str) -> None:
    source = torch.randn(shape, device=device).to(getattr(torch, dtype))
    target = torch.full_like(source.mT, torch.nan, memory_format=torch.contiguous_format)
    transposed._transpose(source, target)()
    assert torch.equal(target, source.mT)


@pytest.mark.parametrize(("rung_id", "phase"), [each for each in IN_PHASES if each[0] in VERTICAL])
def test_transposes_are_counted(rung_id: str, phase: Phase) -> None:
    rung, tensors = LADDER[rung_id], 4 if phase == "forward" else 8
    if rung_id == "r09":  # scans columns where they lie
        tensors = 0
    down = taken(rung, ScanProblem(2, 3, 41, 50, phase=phase))
    assert down is not None
    right = replace(down, height=50, width=41, direction="right")  # odd: r07 transposes too
    assert rung.launches is not None
    assert rung.launches(right) == rung.launches(down) + tensors
    copied = 2 * down.compulsory_bytes if tensors else 0
    assert rung.traffic(right) == rung.traffic(down) + copied


SIXTEEN_BITS = [d for d in DTYPES if d != "float32"]


@pytest.mark.parametrize(
    ("rung_id", "phase", "dtype"),
    list(product(("r04", "r05", "r06"), PHASES, SIXTEEN_BITS)),
)
def test_sixteen_bit_storage(rung_id: str, phase: Phase, dtype: DType, device: str) -> None:
    problem = replace(oriented((1, 2, 4, 5, 3), "down", phase), dtype=dtype)
    problem = replace(problem, weights="shared" if rung_id == "r06" else "channel")
    hold(LADDER[rung_id], problem, device)


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("rung_id", STEPS)
@pytest.mark.parametrize(
    ("steps", "line", "chunk", "weights", "dtype"),
    [
        (11, 6, None, "channel", "float32"),  # passes of the ring, and three lines more
        (9, 33, 5, "shared", "float32"),  # words of one column; a second warp of one thread
        (8, 12, None, "shared", "bfloat16"),
        (12, 64, None, "channel", "float16"),
        (10, 66, 9, "shared", "float32"),
    ],
)
def test_steps_to_the_ring(
    steps: int,
    line: int,
    chunk: int | None,
    weights: Weights,
    dtype: DType,
    rung_id: str,
    direction: Direction,
    device: str,
) -> None:
    problem = oriented((1, 2, steps, line, chunk), direction, "forward")
    hold(LADDER[rung_id], replace(problem, weights=weights, dtype=dtype), device)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("rung_id", ["r02", "r03", "r04", "r05", "r06"])
def test_lines_longer_than_a_block(
    rung_id: str, phase: Phase, device: str, small_blocks: None
) -> None:
    rung = LADDER[rung_id]
    problem = taken(rung, oriented((1, 1, 2, 67, None), rung.native, phase))
    assert problem is not None
    hold(rung, problem, device)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("rung_id", "lanes", "cslice", "geometry"),
    [
        ("r05", 32, 2, (1, 3, 3, 4, 2)),  # the last group has one slice of two
        ("r05", 32, 4, (3, 1, 2, 33, None)),
        ("r06", 32, 2, (2, 3, 3, 4, 2)),  # two groups an image: a second launch
        ("r06", 32, 3, (1, 3, 2, 33, None)),
        ("r06", 32, 4, (1, 3, 3, 2, 2)),  # more rows than channels
    ],
)
def test_several_slices_a_block(
    rung_id: str,
    lanes: int,
    cslice: int,
    geometry: Geometry,
    phase: Phase,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rung = with_blocks(rung_id, lanes, cslice, monkeypatch)
    problem = taken(rung, oriented(geometry, "up", phase))
    assert problem is not None
    hold(rung, problem, device)


@pytest.mark.parametrize("line", [1, 31, 33, 512, 513, 1024, 1025, 2049, launch_limits.MAX_LINE])
@pytest.mark.parametrize("batch", [1, 100, 1000])
@pytest.mark.parametrize("module", [r05_block2d, r06_shape])
def test_a_block_fits_its_multiprocessor(module: Any, batch: int, line: int) -> None:
    config = module.choose(ScanProblem(batch, 8, 4, line, weights="shared"))
    assert config.lanes % 32 == 0
    assert config.lanes * config.cslice <= 1024
    assert 4 * config.cslice * 2 * (line + 2) <= 48 * 1024
    assert config.cslice == 1 or 8 * batch // config.cslice >= r05_block2d.MIN_BLOCKS


def test_r06_sums_in_the_same_order_every_time(device: str) -> None:
    problem = ScanProblem(1, 3, 2, 5, weights="shared", phase="backward")
    operands = wild(problem, device)
    assert operands.grad_w is not None
    call = LADDER["r06"].bind(problem, operands)
    call()
    first = operands.grad_w.clone()
    call()
    assert torch.equal(first, operands.grad_w)


UNSUPPORTED = [
    ("r01", {"dtype": "float16"}, "dtype: float16"),
    ("r01", {"direction": "left"}, "direction: left"),
    ("r01", {"weights": "shared"}, "weights: shared"),
    ("r01", {"chunk": 2}, "chunk: 2"),
    ("r02", {"dtype": "bfloat16"}, "dtype: bfloat16"),
    ("r02", {"direction": "down"}, "direction: down"),
    ("r02", {"weights": "shared"}, "weights: shared"),
    ("r03", {"dtype": "bfloat16"}, "dtype: bfloat16"),
    ("r03", {"weights": "shared"}, "weights: shared"),
    ("r04", {"weights": "shared"}, "weights: shared"),
    ("r04", {"width": 6143}, "width: 6143 is above 6142"),
    ("r04", {"height": 6143, "direction": "left"}, "height: 6143 is above 6142"),
    ("r05", {"weights": "shared"}, "weights: shared"),
    ("r05", {"width": 6143}, "width: 6143 is above 6142"),
    ("r06", {"weights": "channel"}, "weights: channel"),
    ("r06", {"width": 6143, "weights": "shared"}, "width: 6143 is above 6142"),
    ("r06a", {"phase": "backward"}, "phase: r06a has no backward kernel"),
    ("r06b", {"width": 1026}, "width: 1026 is above 1024, the most for words of 8 bytes"),
    ("r06c", {"width": 1025}, "width: 1025 is above 1024, the most for words of 4 bytes"),
    ("r03", {"batch": 2**20, "height": 2**12, "chunk": 1}, "batch * channels * chunks: "),
    ("r03", {"batch": 2**30, "direction": "left"}, "direction: left takes "),
]


@pytest.mark.parametrize(("rung_id", "fields", "reason"), UNSUPPORTED)
def test_what_a_rung_cannot_do(rung_id: str, fields: dict[str, Any], reason: str) -> None:
    rung = LADDER[rung_id]
    problem = ScanProblem(**{"batch": 1, "channels": 1, "height": 4, "width": 4} | fields)
    if "direction" not in fields:
        problem = problem.with_direction(rung.native)
    empty = torch.empty(0)
    with pytest.raises(ValueError) as caught:  # before the operands are looked at
        rung.bind(problem, Operands(empty, empty, empty, empty))
    assert str(caught.value).startswith(reason)


FAULTS = [
    ("r01_line_launch", "backward", "if row + 1 < height:", "if row + 2 < height:"),
    ("r02_fused", "forward", "if column > start:", "if column > 0:"),  # h outlives its chunk
    ("r03_coalesced", "backward", "if step + 1 < stop:", "if step + 1 < height:"),
    ("r04_shared", "forward", "line[j] = np.float32(0)", "line[j] = np.float32(1)"),  # the halo
    ("r04_shared", "backward", "w_right = load(wl, below + one)", "w_right = load(wl, below)"),
    (
        "r05_block2d",
        "backward",
        "store(grad_wr, index, g * right)",
        "store(grad_wr, index, g * left)",
    ),
    ("r06a_columns", "forward", "if i + 1 < pack else beyond", "if i + 1 < pack else left"),
    ("r06b_ring", "forward", "ahead = DEPTH * stride", "ahead = stride"),
    ("r06c_branchless", "forward", "ahead = (k + DEPTH) * stride", "ahead = k * stride"),
    ("r06_compact.backward", "backward", "in range(members):", "in range(members - 1):"),
    ("r06_compact.forward", "forward", "store(h, index, value)", "pass"),  # it stays NaN
]


@pytest.mark.parametrize(("name", "phase", "line", "fault"), FAULTS)
def test_a_planted_fault_is_found(
    name: str, phase: Phase, line: str, fault: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = resources.files("gspn2bench.kernels").joinpath(f"{name.replace('.', '/')}.py")
    source = file.read_text()
    assert line in source
    module = types.ModuleType(f"{name}_with_a_fault")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(source.replace(line, fault), module.__dict__)
    if "." in name:  # a part of a rung: its builder takes the place of the rung's own
        package = importlib.import_module(f"gspn2bench.kernels.{name.partition('.')[0]}")
        builder = f"build_{phase}"
        monkeypatch.setattr(package, builder, getattr(module, builder))
        rung = package.RUNG
    else:
        rung = module.RUNG
    chunk = None if name.startswith("r01") else 2
    geometry = (1, 2, 11, 6, None) if rung.id in STEPS else (1, 2, 5, 3, chunk)
    problem = taken(rung, oriented(geometry, rung.native, phase))
    assert problem is not None
    assert not verdict_of(rung, problem, device).passed


EXTENTS = (1, 2, 31, 32, 33, 63, 500, 1025, 2049)
EXTENTS_OF = {"r08": (2, 33, 2049)}
"""A kernel of r08 is compiled for one line length and ring, in several seconds."""


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("rung_id", "phase", "direction"), list(product(LADDER, PHASES, DIRECTIONS))
)
def test_every_extent(rung_id: str, phase: Phase, direction: Direction, device: str) -> None:
    rung, tried = LADDER[rung_id], 0
    extents = EXTENTS_OF.get(rung_id, EXTENTS)
    lines = [line for line in extents if line <= 1024 or rung_id not in STEPS]
    for k, (steps, line) in enumerate(product(extents, lines)):
        # Chunks and channels take turns, at periods without a factor in common with the extents.
        chunk = (1, 7, 64, None)[k % 4]
        channels = (1, 2, 3, 8, 1)[k % 5]
        if rung_id == "r01" or (chunk or 0) > steps:
            chunk = None
        problem = taken(rung, oriented((2, channels, steps, line, chunk), direction, phase))
        if problem is not None:
            hold(rung, problem, device)
            tried += 1
    if not tried:
        reason = rung.skip_reason(oriented((1, 1, 1, 1, None), direction, phase))
        pytest.skip(f"{rung_id}: {reason}")
    assert tried > 0.9 * len(extents) * len(lines)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("rung_id", "phase", "dtype"),
    [(*each, dtype) for each, dtype in product(IN_PHASES, SIXTEEN_BITS) if each[0] in VERTICAL],
)
def test_every_storage_type(rung_id: str, phase: Phase, dtype: DType, device: str) -> None:
    rung = LADDER[rung_id]
    sizes: list[Geometry] = [(2, 3, 33, 500, 7), (3, 2, 64, 1025, None), (1, 8, 65, 63, 64)]
    for geometry, direction in product(sizes, DIRECTIONS):
        if rung_id in STEPS and geometry[3] > 1024:
            continue
        problem = taken(rung, replace(oriented(geometry, direction, phase), dtype=dtype))
        if problem is None:
            pytest.skip(f"{rung_id} does not store {dtype}")
        hold(rung, problem, device)


@pytest.mark.gpu
@pytest.mark.parametrize(("rung_id", "phase"), IN_PHASES)
def test_more_slices_than_a_grid_axis_of_65535(rung_id: str, phase: Phase, device: str) -> None:
    rung = LADDER[rung_id]
    for direction in (rung.native, *(("left",) if rung.native == "down" else ())):
        problem = taken(rung, oriented((7, 10_000, 3, 5, None), direction, phase))
        assert problem is not None
        hold(rung, problem, device)


@pytest.mark.gpu
@pytest.mark.parametrize(("rung_id", "phase"), IN_PHASES)
def test_a_call_allocates_nothing(rung_id: str, phase: Phase, device: str) -> None:
    rung = LADDER[rung_id]
    problem = taken(rung, oriented((1, 3, 8, 33, None), "right", phase))
    assert problem is not None
    call = rung.bind(problem, wild(problem, device))
    call()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    assert torch.cuda.max_memory_allocated() == before
