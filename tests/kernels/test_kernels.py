"""Every rung against the float64 reference: ragged sizes, poisoned outputs, hostile borders."""

import ast
import math
import re
from dataclasses import replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gspn2bench.kernels import launch_limits, operand_arrays
from gspn2bench.kernels.contract import Operands, Rung
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.kernels.r07_gspn2 import configuration
from gspn2bench.kernels.storage import storage_of
from gspn2bench.measure import launches
from gspn2bench.problem import DIRECTIONS, DTYPES, PHASES, Direction, DType, Phase, ScanProblem
from gspn2bench.workload import gate, inputs

TINY = [(1, 1, 1, 1), (2, 1, 1, 5), (1, 2, 5, 1), (1, 3, 7, 8), (2, 2, 3, 33), (1, 1, 17, 31)]
STEPS = ("r06a", "r06b", "r06c")  # they take lines of up to 1024 columns
RAGGED = [(2, 3, 63, 500), (1, 2, 500, 1025), (3, 1, 32, 2049), (1, 1, 31, 4096)]


def wild_operands(problem: ScanProblem, device: str) -> Operands:
    """Operands whose weights point outside the line too: a kernel must take those as zero."""
    operands = inputs.make(problem, device, seed=3)
    generator = torch.Generator(device).manual_seed(4)
    operands.w.uniform_(-0.5, 0.5, generator=generator)
    return operands


def native_problem(rung: Rung, shape: tuple[int, int, int, int]) -> ScanProblem:
    """The scan that a rung was written for: its own direction, and the weights that it takes."""
    problem = ScanProblem(*shape, direction=rung.native)
    if rung.skip_reason(problem) is None:
        return problem
    return replace(problem, weights="shared")


def held_to_the_reference(rung_id: str, shape: tuple[int, int, int, int], device: str) -> None:
    rung = LADDER[rung_id]
    problem = native_problem(rung, shape)
    operands = wild_operands(problem, device)
    kept = inputs.clone(operands)
    call = rung.bind(problem, operands)
    verdict = gate.check(problem, operands, call)
    assert verdict.passed, verdict.reason
    for name in ("x", "lam", "w"):
        assert torch.equal(getattr(operands, name), getattr(kept, name)), f"{name} was written"
    assert launches.count_launches(call) == rung.launches(problem)


@pytest.mark.parametrize(("rung_id", "shape"), list(product(LADDER, TINY)))
def test_tiny(rung_id: str, shape: tuple[int, int, int, int], device: str) -> None:
    held_to_the_reference(rung_id, shape, device)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("rung_id", "shape"),
    [
        (rung_id, shape)
        for rung_id, shape in product(LADDER, RAGGED)
        if shape[-1] <= 1024 or rung_id not in STEPS
    ],
)
def test_ragged(rung_id: str, shape: tuple[int, int, int, int], device: str) -> None:
    if rung_id in ("r06a", "r06b", "r06c") and shape[-1] > 1024:
        pytest.skip(f"{rung_id}: one word per thread, up to 1024 of them")
    held_to_the_reference(rung_id, shape, device)


@pytest.mark.gpu
@pytest.mark.parametrize("rung_id", list(LADDER))
def test_many_slices(rung_id: str, device: str) -> None:
    held_to_the_reference(rung_id, (7, 10_000, 3, 5), device)


@pytest.mark.parametrize(
    ("words", "pack", "depth", "dtype", "width"),
    [
        (3, 1, 2, "float32", 70),  # the last columns of some threads are outside the line
        (2, 2, 2, "float32", 100),
        (1, 1, 8, "float32", 32),
        (1, 4, 2, "bfloat16", 100),
        (2, 2, 4, "float16", 90),
    ],
)
@pytest.mark.parametrize("phase", PHASES)
def test_r07_with_a_run_of_columns_a_thread(
    phase: Phase,
    words: int,
    pack: int,
    depth: int,
    dtype: DType,
    width: int,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    height = 2 * depth + 3  # whole turns of the ring, and a ragged rest
    problem = ScanProblem(1, 1, height, width, dtype=dtype, phase=phase)
    config = replace(
        configuration.choose(problem),
        line_words=width // pack,
        threads=32,
        words=words,
        pack=pack,
        depth=depth,
    )
    monkeypatch.setattr(configuration, "choose", lambda problem: config)
    operands = wild_operands(problem, device)
    verdict = gate.check(problem, operands, LADDER["r07"].bind(problem, operands))
    assert verdict.passed, verdict.reason


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 31, 32, 33, 512, 513, 1024, 1025, 2048, 2049, 4096])
def test_r07_covers_every_column_within_the_limits_of_a_block(width: int, dtype: DType) -> None:
    config = configuration.choose(ScanProblem(1, 1, 2, width, dtype=dtype))
    assert width % config.pack == 0
    assert config.threads * config.words * config.pack >= width
    assert config.threads % 32 == 0
    assert config.threads <= 1024
    assert config.words <= configuration.MAX_WORDS
    assert config.depth % 2 == 0
    assert config.word_bytes in (2, 4, 8)
    edges = 4 * (config.threads + 2) * 2 * 4  # backward's, the larger
    assert edges <= 48 * 1024


def test_the_same_bits_every_time(device: str) -> None:
    problem = ScanProblem(1, 2, 4, 9)
    operands = inputs.make(problem, device, seed=0)
    call = LADDER["r07"].bind(problem, operands)
    call()
    first = operands.h.clone()
    call()
    assert torch.equal(first, operands.h)


@pytest.mark.gpu
def test_calls_follow_the_current_stream_and_allocate_nothing(device: str) -> None:
    problem = ScanProblem(2, 2, 64, 128)
    operands = inputs.make(problem, device, seed=0)
    call = LADDER["r07"].bind(problem, operands)
    call()
    torch.cuda.synchronize()
    expected = operands.h.clone()

    stream = torch.cuda.Stream()
    operands.h.fill_(math.nan)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # what is enqueued after it has to wait
        call()
        assert not stream.query(), "the call synchronised with the host, or ran elsewhere"
        assert torch.cuda.memory_allocated() == before
    stream.synchronize()
    assert torch.equal(operands.h, expected)


SHAPE = (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("x", torch.zeros(2, 3, 4, 6), "x: shape (2, 3, 4, 6), expected (2, 3, 4, 5)"),
        ("w", torch.zeros(3, 2, 4, 5), "w: shape (3, 2, 4, 5), expected (3, 2, 3, 4, 5)"),
        (
            "lam",
            torch.zeros(SHAPE, dtype=torch.float64),
            "lam: shape (2, 3, 4, 5) of torch.float64, expected torch.float32",
        ),
        (
            "h",
            torch.zeros(2, 3, 5, 4).swapaxes(-1, -2),
            "h: shape (2, 3, 4, 5) with strides (60, 20, 1, 4), expected contiguous",
        ),
        (
            "h",
            torch.zeros(SHAPE, device="meta"),
            "h: shape (2, 3, 4, 5) on meta, expected cpu, as x",
        ),
    ],
)
def test_bad_operands_are_refused_before_any_launch(
    name: str, tensor: torch.Tensor, message: str
) -> None:
    problem = ScanProblem(*SHAPE)
    operands = replace(inputs.make(problem, "cpu", seed=0), **{name: tensor})
    with pytest.raises(ValueError) as caught:
        LADDER["r07"].bind(problem, operands)
    assert str(caught.value) == message


@pytest.mark.parametrize(("width", "refused"), [(512, True), (511, False)])
@pytest.mark.parametrize(("rung_id", "word_bytes"), [("r07", 8), ("r08", 16)])
def test_memory_that_begins_between_two_words_is_refused(
    rung_id: str, word_bytes: int, width: int, refused: bool
) -> None:
    problem = ScanProblem(1, 1, 2, width)  # words of two columns where there are pairs
    begun_late = torch.zeros(1 + 2 * width)[1:].view(problem.data_shape)
    operands = replace(inputs.make(problem, "cpu", seed=0), x=begun_late)
    if not refused:
        LADDER[rung_id].bind(problem, operands)
        return
    with pytest.raises(ValueError) as caught:
        LADDER[rung_id].bind(problem, operands)
    where = f"an address that is not a multiple of {word_bytes} bytes"
    assert str(caught.value) == f"x: shape (1, 1, 2, 512) at {where}"


CHANGES: list[dict[str, Any]] = [
    {"direction": "left"}, {"dtype": "bfloat16"}, {"chunk": 2}, {"height": 70_000},
    {"weights": "shared"}, {"weights": "channel"}, {"phase": "backward"}, {"width": 70_000},
]  # fmt: skip
REFUSED = {
    "r01": "direction dtype chunk shared",
    "r02": "direction dtype shared",
    "r03": "dtype shared",
    "r04": "shared width",
    "r05": "shared width",
    "r06": "channel width",
    "r06a": "phase width",
    "r06b": "phase width",
    "r06c": "phase width",
    "r07": "width",
    "r08": "width",
    "r09": "width",
}
"""The changes that each rung refuses, by field or value; it takes all others."""


@pytest.mark.parametrize("rung_id", list(LADDER))
def test_what_a_rung_cannot_do_it_says(rung_id: str) -> None:
    rung = LADDER[rung_id]
    operands = inputs.make(ScanProblem(1, 1, 4, 4), "cpu", seed=0)
    native = native_problem(rung, (1, 1, 4, 4))
    assert rung.skip_reason(native) is None
    refused = []
    for change in CHANGES:
        problem = replace(native, **change)
        reason = rung.skip_reason(problem)
        if reason is None:
            continue
        (field,) = change
        assert reason.split(":")[0] == field
        refused.append(change[field] if field == "weights" else field)
        with pytest.raises(ValueError, match=re.escape(reason)):
            rung.bind(problem, operands)
    assert " ".join(refused) == REFUSED[rung_id]


def test_a_grid_has_up_to_2147483647_blocks() -> None:
    assert launch_limits.grid_limit_reason(ScanProblem(1, 2**31 - 1, 1, 1)) is None
    reason = launch_limits.grid_limit_reason(ScanProblem(2**10, 2**10, 2**11, 1, chunk=1))
    assert reason is not None
    assert reason.startswith("batch * channels * chunks: 2147483648 is above 2147483647")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_two_lines_in_shared_memory_have_up_to_6142_values(direction: Direction) -> None:
    for line, refused in ((6142, False), (6143, True)):
        size = (2, line) if direction in ("down", "up") else (line, 2)
        problem = ScanProblem(1, 1, *size, direction=direction)
        assert (launch_limits.line_limit_reason(problem) is not None) is refused


class Tensor:
    """Stands for a tensor whose new memory holds zeros."""

    def new_empty(self, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype)


def test_scratch_memory_is_poisoned_except_where_a_caller_says_no() -> None:
    def poisoned() -> bool:
        tensor = operand_arrays.scratch_tensor(Tensor(), (2, 3), torch.float32)  # type: ignore[arg-type]
        assert tensor.isnan().all() or not tensor.isnan().any()
        return bool(tensor.isnan().any())

    assert poisoned()
    with operand_arrays.unpoisoned():
        assert not poisoned()
        with operand_arrays.unpoisoned():
            assert not poisoned()
        assert not poisoned()
    assert poisoned()
    with pytest.raises(KeyError), operand_arrays.unpoisoned():
        raise KeyError
    assert poisoned()


def test_scratch_memory_of_a_rung_is_poisoned(device: str) -> None:
    operands = inputs.make(ScanProblem(1, 1, 2, 2), device, seed=0)
    array = operand_arrays.scratch(operands, 8)
    values = array if SIMULATED else array.copy_to_host()
    assert np.isnan(values).all()


# one rounding: below, at and above the middle of two neighbours, of which the even one is nearest
ULP = 2**-7
ROUNDED = {
    1 + 0.50 * ULP: 1.0,
    1 + 0.49 * ULP: 1.0,
    1 + 0.51 * ULP: 1 + ULP,
    1 + 1.50 * ULP: 1 + 2 * ULP,
    1 + 1.49 * ULP: 1 + ULP,
    1 + 2.50 * ULP: 1 + 2 * ULP,
    -1 - 0.50 * ULP: -1.0,
    -1 - 1.50 * ULP: -1 - 2 * ULP,
    0.0: 0.0,
    math.inf: math.inf,
}


@pytest.mark.skipif(not SIMULATED, reason="a GPU rounds with one instruction")
def test_the_simulator_rounds_bfloat16_to_nearest_with_ties_to_even() -> None:
    narrow, join = storage_of("bfloat16").narrow, storage_of("bfloat16").join
    many = torch.randn(200, generator=torch.Generator().manual_seed(0))
    exact = many.to(torch.bfloat16).float()  # torch rounds in the same way
    pairs = {**ROUNDED, **dict(zip(many.tolist(), exact.tolist(), strict=True))}
    for value, expected in pairs.items():
        raw = int(narrow(np.float32(value)))
        word = int(join(np.float32(value), np.float32(-value)))
        bits = int(np.float32(expected).view(np.uint32)) >> 16
        assert raw == bits, value
        assert word == bits | (bits ^ 0x8000) << 16, value
    assert np.isnan(np.uint32(int(narrow(np.float32(np.nan))) << 16).view(np.float32))


@pytest.mark.parametrize(
    ("old", "new"),
    [("supports", "unsupported_reason"), ("not_in_graphs", "graph_unsupported_reason")],
)
def test_a_field_of_an_older_rung_is_refused_by_its_new_name(old: str, new: str) -> None:
    fields = {name: getattr(LADDER["r04"], name) for name in Rung.__dataclass_fields__}
    Rung(**fields)
    with pytest.raises(TypeError, match=f"Rung: {old} was renamed to {new} in 0.2.0"):
        Rung(**fields, **{old: None})


def test_every_rung_file_is_in_the_ladder_with_its_header() -> None:
    folder = resources.files("gspn2bench.kernels")
    files = sorted(f.name for f in folder.iterdir() if f.name[:1] == "r" and f.name[1:3].isdigit())
    assert [name.partition("_")[0] for name in files] == list(LADDER)
    for number, name in enumerate(files):
        file = folder.joinpath(name)
        if file.is_dir():
            file = file.joinpath("__init__.py")
        header = ast.get_docstring(ast.parse(file.read_text())) or ""
        wanted = ["Idea:", "Expect:", "Source:"] + (["Changes since r"] if number else [])
        for field in wanted:
            assert field in header, f"{name} has no {field!r} in its header"


KERNELS = resources.files("gspn2bench.kernels")
PYTHON = [*Path(str(KERNELS)).rglob("*.py")]


@pytest.mark.parametrize("file", PYTHON, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_file_of_the_ladder_can_be_read_in_one_go(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name == "forward":
            assert node.end_lineno - node.lineno < 90, node.name  # type: ignore[operator]


@pytest.mark.skipif(not SIMULATED, reason="asks the driver on a GPU: see test_tiny")
def test_the_simulator_counts_launches_not_names() -> None:
    problem = ScanProblem(1, 1, 2, 6, direction="right")
    call = LADDER["r01"].bind(problem, inputs.make(problem, "cpu", seed=0))
    assert launches.count_launches(call) == 6
