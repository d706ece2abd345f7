"""r09 against float64: directions, ragged tiles, chunks, layouts, poisoned outputs."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gspn2bench.kernels import r09_quad, reference
from gspn2bench.kernels.cluster import MAX_SHARED_BYTES
from gspn2bench.kernels.four import FourOperands, FourProblem
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.kernels.r09_quad import configuration
from gspn2bench.measure import launches
from gspn2bench.ops.weights import logits_gradient, weights_of
from gspn2bench.problem import DIRECTIONS, DTYPES, ScanProblem
from gspn2bench.workload.gate import TOLERANCE

SMALL: dict[str, Any] = {"threads": 24, "lines": 4}  # the simulator runs a Python thread per thread


def make(problem: FourProblem, device: str) -> FourOperands:
    """Random tensors, with weights that point outside the line too; outputs are NaN."""
    generator = torch.Generator(device).manual_seed(0)
    scan = problem.scan
    dtype, outermost = getattr(torch, scan.dtype), problem.channels_outermost
    count = len(problem.directions)
    data, weights = (count, *scan.data_shape), (count, *scan.weight_shape)

    def lay_out(tensor: Tensor) -> Tensor:
        tensor = tensor.to(dtype)
        if not outermost or tensor.shape[-4:] != torch.Size(scan.data_shape):
            return tensor
        return tensor.transpose(-4, -3).contiguous().transpose(-4, -3)

    def normal(shape: tuple[int, ...]) -> Tensor:
        return lay_out(torch.randn(shape, device=device, generator=generator))

    def empty(shape: tuple[int, ...]) -> Tensor:
        return lay_out(torch.full(shape, math.nan, device=device))

    x, lam = normal(scan.data_shape), normal(data)
    w = normal(weights)
    if not problem.logits:
        w = lay_out((w / 4).clamp(-0.5, 0.5))
    u = normal(data) if problem.with_u else None
    if problem.phase == "forward":
        h, y = empty(data) if problem.with_h else None, empty(data) if problem.with_u else None
        biases = r09_quad.biases_of(problem)
        bias = normal((biases,)) if problem.with_bias else None
        return FourOperands(x, lam, w, h=h, u=u, y=y, bias=bias)
    grads = {"grad_x": empty(data), "grad_lam": empty(data), "grad_w": empty(weights)}
    grad_u = empty(data) if problem.with_u else None
    return FourOperands(x, lam, w, h=normal(data), u=u, grad=normal(data), grad_u=grad_u, **grads)


def biased(problem: FourProblem, four: FourOperands) -> FourOperands:
    """The operands in float64 with the bias added."""
    channels, count = problem.scan.channels, len(problem.directions)
    x, lam, w, u, bias = (t.double() for t in (four.x, four.lam, four.w, four.u, four.bias))  # type: ignore[union-attr]
    of_x, of_lam, of_u, of_w = bias.split(
        [channels, *[count * channels] * 2, len(bias) - 9 * channels]
    )
    shape = (count, 1, channels, 1, 1)
    sets = () if problem.scan.weights == "shared" else (channels,)
    return replace(
        four,
        x=x + of_x.view(1, channels, 1, 1),
        lam=lam + of_lam.view(shape),
        u=u + of_u.view(shape),
        w=w + of_w.view(count, 3, 1, *sets, 1, 1),
    )


def expected(problem: FourProblem, four: FourOperands) -> dict[str, Tensor]:
    """The outputs in float64, by name, with a leading axis of directions."""
    if problem.with_bias:
        four = biased(problem, four)
    scan = problem.scan
    shared = scan.weights == "shared"
    groups, members = (scan.batch, scan.channels) if shared else (scan.slices, 1)
    data = (groups, members, scan.height, scan.width)
    results: dict[str, list[Tensor]] = {}
    for d, direction in enumerate(problem.directions):
        steps = scan.height if direction in ("down", "up") else scan.width
        chunk = None if scan.chunk is None else min(scan.chunk, steps)
        one = replace(scan, direction=direction, chunk=chunk, logits=False)
        x, lam = (t.double().cpu().reshape(data) for t in (four.x, four.lam[d]))
        logits = four.w[d].double().cpu()
        w = weights_of(logits, direction) if problem.logits else logits
        flat_w = w.reshape(3, groups, 1, scan.height, scan.width)
        u = None if four.u is None else four.u[d].double().cpu().reshape(data)
        if problem.phase == "forward":
            h = reference.forward(one, x, lam, flat_w)
            outputs = {"h": h} if problem.with_h else {}
            if u is not None:
                outputs["y"] = u * h
        else:
            assert four.grad is not None
            assert four.h is not None
            grad, h = (t[d].double().cpu().reshape(data) for t in (four.grad, four.h))
            grad_h = grad if u is None else grad * u
            names = ("grad_x", "grad_lam", "grad_w")
            outputs = dict(
                zip(names, reference.backward(one, grad_h, x, lam, flat_w, h), strict=True)
            )
            if problem.logits:
                grad_w = outputs["grad_w"].reshape(w.shape)
                outputs["grad_w"] = logits_gradient(logits, w, grad_w, direction)
            if u is not None:
                outputs["grad_u"] = grad * h
        for name, output in outputs.items():
            results.setdefault(name, []).append(output)
    return {name: torch.stack(parts) for name, parts in results.items()}


def check(problem: FourProblem, device: str, *, expect_launches: int = 1, **changes: Any) -> None:
    """Run a problem and compare every output with the reference."""
    four = make(problem, device)
    config = configuration.choose(problem)
    if SIMULATED:
        group = problem.scan.channels if problem.scan.weights == "shared" else 1
        config = replace(config, **{**SMALL, "group": group, **changes})
    prepared = r09_quad.prepare(problem, config)
    inputs = ("x", "lam", "w", "u", "grad", "h" if problem.phase == "backward" else "u")
    memory = torch.full((r09_quad.sums_of(problem, config),), math.nan, device=device)
    four = replace(four, scratch=memory)
    before = {
        name: getattr(four, name).clone() for name in inputs if getattr(four, name) is not None
    }
    wanted = expected(problem, four)
    count = launches.count_launches(lambda: prepared(four))
    assert count == (expect_launches if SIMULATED else r09_quad.launches(problem))
    for name, want in wanted.items():
        result = getattr(four, name).double().cpu().reshape(want.shape)
        assert torch.isfinite(result).all(), name
        tolerance = TOLERANCE[problem.scan.dtype]
        assert (result - want).abs().max() <= tolerance * want.abs().max(), name
    assert all(torch.equal(getattr(four, name), value) for name, value in before.items())


@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ((1, 1, 1, 1), {}),
        ((2, 1, 5, 1), {}),
        ((1, 2, 11, 6), {"threads": 16}),  # three tiles of rows, two of columns, the last short
        ((1, 1, 6, 17), {"run": 4, "lines": 2}),  # an odd width: words of one value
        ((1, 3, 5, 8), {"threads": 16, "run": 2}),  # three channels side by side
    ],
)
def test_ragged_sizes(
    phase: Any, shape: tuple[int, int, int, int], changes: dict[str, Any], device: str
) -> None:
    problem = FourProblem(ScanProblem(*shape, phase=phase, weights="shared"))
    check(problem, device, **changes)


@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_per_channel_in_chunks(phase: Any, dtype: Any, device: str) -> None:
    problem = FourProblem(ScanProblem(1, 2, 10, 8, dtype=dtype, chunk=4, phase=phase))
    check(problem, device, threads=16)


@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("outermost", [False, True])
def test_logits_and_u_in_the_same_launch(
    phase: Any, dtype: Any, outermost: bool, device: str
) -> None:
    scan = ScanProblem(2, 2, 6, 8, dtype=dtype, weights="shared", phase=phase)
    problem = FourProblem(scan, logits=True, with_u=True, channels_outermost=outermost)
    check(problem, device, threads=16)


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_channels_outermost_with_weights_per_channel(phase: Any, device: str) -> None:
    scan = ScanProblem(2, 3, 3, 5, phase=phase)
    check(FourProblem(scan, logits=True, channels_outermost=True), device, threads=8)


def test_u_h_without_h(device: str) -> None:
    check(FourProblem(ScanProblem(1, 1, 4, 5), with_u=True, with_h=False), device)


@pytest.mark.parametrize("weights", ["shared", "channel"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_bias_is_added_to_what_is_read(weights: Any, dtype: Any, device: str) -> None:
    scan = ScanProblem(2, 2, 3, 8, dtype=dtype, weights=weights)
    options = {"logits": True, "with_u": True, "with_h": False, "with_bias": True}
    check(FourProblem(scan, channels_outermost=True, **options), device, threads=16)  # type: ignore[arg-type]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_one_direction(direction: Any, phase: Any, device: str) -> None:
    scan = ScanProblem(1, 2, 5, 8, phase=phase, weights="shared", direction=direction)
    check(FourProblem.of_scan(scan), device, threads=16)


@pytest.mark.parametrize("logits", [False, True])
def test_several_groups_of_channels_take_a_second_launch(logits: bool, device: str) -> None:
    scan = ScanProblem(2, 4, 5, 6, weights="shared", phase="backward")
    problem = FourProblem(scan, logits=logits)
    if SIMULATED:
        check(problem, device, group=2, expect_launches=2)
        return
    config = replace(configuration.choose(problem), group=2)
    four = make(problem, device)
    four = replace(four, scratch=torch.empty(r09_quad.sums_of(problem, config), device=device))
    prepared = r09_quad.prepare(problem, config)
    prepared(four)
    assert four.grad_w is not None
    first = four.grad_w.clone()
    prepared(four)
    assert torch.equal(four.grad_w, first)  # a fixed order of sums
    want = expected(problem, four)["grad_w"]
    error = (first.double().cpu().reshape(want.shape) - want).abs().max()
    assert error <= TOLERANCE["float32"] * want.abs().max()


@pytest.mark.parametrize("value", [-200.0, -45.0, 0.0, 45.0, 200.0])
def test_gradients_of_steep_logits(value: float, device: str) -> None:
    scan = ScanProblem(1, 1, 4, 4, weights="shared", phase="backward")
    problem = FourProblem(scan, logits=True)
    four = make(problem, device)
    four.w[:, 0] += value
    want = expected(problem, four)["grad_w"]
    config = replace(configuration.choose(problem), **(SMALL if SIMULATED else {}))
    r09_quad.prepare(problem, config)(four)
    assert four.grad_w is not None
    error = (four.grad_w.double().cpu().reshape(want.shape) - want).abs().max()
    assert error <= TOLERANCE["float32"] * want.abs().max()


@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize("weights", ["shared", "channel"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (31, 4096), (4095, 31), (1024, 1024)])
def test_a_tile_of_every_size_fits_in_a_block(
    phase: Any, weights: Any, dtype: Any, size: tuple[int, int]
) -> None:
    scan = ScanProblem(1, 12, *size, dtype=dtype, weights=weights, phase=phase)
    problem = FourProblem(scan, logits=True, with_u=True)
    config = configuration.choose(problem)
    assert scan.width % config.pack == config.lines % config.pack == 0
    assert config.group * config.walkers <= config.threads <= 1024
    floats = configuration.shared_floats(config, phase)
    assert 4 * floats <= MAX_SHARED_BYTES


@pytest.mark.gpu
@pytest.mark.parametrize("phase", ["forward", "backward"])
@pytest.mark.parametrize("parts", [2, 4, 8])
@pytest.mark.parametrize("run", [2, 4])
def test_a_line_divided_among_a_cluster(phase: Any, parts: int, run: int, device: str) -> None:
    scan = ScanProblem(2, 4, 128, 256, weights="shared", phase=phase, chunk=40)
    problem = FourProblem(scan)
    config = replace(configuration.choose(problem), group=4, lines=8, run=run, parts=parts)
    config = replace(config, threads=-(-4 * config.walkers // 32) * 32)
    four = make(problem, device)
    r09_quad.prepare(problem, config)(four)
    for name, want in expected(problem, four).items():
        result = getattr(four, name).double().cpu().reshape(want.shape)
        assert (result - want).abs().max() <= TOLERANCE["float32"] * want.abs().max(), name
