"""The scan as an operator: the same function as the reference, and what torch asks of one."""

import os
import subprocess
import sys
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from gspn2bench.kernels import reference
from gspn2bench.ops import cpu, gpu, line_scan, line_scan4, normalize_weights
from gspn2bench.ops.check import ALL, each
from gspn2bench.ops.library import scan
from gspn2bench.problem import DIRECTIONS, WEIGHTS, Direction, ScanProblem, Weights
from gspn2bench.workload.gate import TOLERANCE

from ..helpers.ops_fixtures import directions, operands, weights


def held_to_the_reference(
    x: Tensor, lam: Tensor, w: Tensor, direction: Direction, chunk: int | None, tolerance: float
) -> None:
    """H and every gradient against reference.py in float64, relative to the largest element."""
    batch, channels, height, width = x.shape
    problem = ScanProblem(batch, channels, height, width, direction=direction, chunk=chunk)
    members = channels if w.dim() == 4 else 1
    groups = (batch * channels // members, members, height, width)

    def grouped(tensor: Tensor | None) -> Any:
        assert tensor is not None
        wide = tensor.detach().double()
        return wide.reshape(3, -1, 1, height, width) if tensor is w else wide.reshape(groups)

    def compare(found: Tensor | None, expected: Tensor) -> None:
        assert found is not None
        assert found.dtype == x.dtype
        assert found.is_contiguous()
        error = (found.double().reshape(expected.shape) - expected).abs().max()
        assert error <= tolerance * expected.abs().max().clamp(min=1e-30)

    h = line_scan(x, lam, w, direction=direction, chunk=chunk)
    compare(h, reference.forward(problem, *map(grouped, (x, lam, w))))
    grad_h = torch.randn(h.shape, generator=torch.Generator().manual_seed(1)).to(h.dtype)
    h.backward(grad_h)  # type: ignore[no-untyped-call]
    expected = reference.backward(problem, *map(grouped, (grad_h, x, lam, w, h)))
    for tensor, gradient in zip((x, lam, w), expected, strict=True):
        compare(tensor.grad, gradient)


@directions
@weights
@pytest.mark.parametrize("chunk", [None, 1, 2, 4, 5])
def test_it_is_the_reference(direction: Direction, weights: Weights, chunk: int | None) -> None:
    held_to_the_reference(*operands(weights=weights), direction, chunk, 1e-13)


@directions
@weights
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 1, 6), (1, 2, 6, 1), (3, 2, 33, 2)])
def test_every_plane_however_thin(
    direction: Direction, weights: Weights, shape: tuple[int, ...]
) -> None:
    held_to_the_reference(*operands(shape, weights), direction, None, 1e-13)


@weights
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE.items())
def test_other_types_within_the_gate(dtype: str, tolerance: float, weights: Weights) -> None:
    x, lam, w = operands((1, 4, 40, 9), weights, getattr(torch, dtype))
    with torch.no_grad():
        w.abs_().div_(w.sum(0) + 0.1)  # 40 lines of these stay small
    held_to_the_reference(x, lam, w, "down", None, tolerance)


@weights
def test_four_directions_are_four_scans(weights: Weights) -> None:
    x, lam, w = operands(weights=weights, scans=4)
    together = line_scan4(x, lam, w, chunk=6)
    apart = [
        line_scan(x, lam[i], w[i], direction=direction, chunk=min(6, 5 if i < 2 else 7))
        for i, direction in enumerate(DIRECTIONS)
    ]
    assert torch.equal(together, torch.stack(apart))
    upstream = torch.randn_like(together)
    found = torch.autograd.grad(together, (x, lam, w), upstream)
    expected = torch.autograd.grad(torch.stack(apart), (x, lam, w), upstream)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-13, atol=1e-13)


@weights
@directions
def test_logits_are_normalized_weights(direction: Direction, weights: Weights) -> None:
    x, lam, logits = operands(weights=weights)
    found = line_scan(x, lam, logits, direction=direction, chunk=4, logits=True)
    w = normalize_weights(logits, direction=direction)
    expected = line_scan(x, lam, w, direction=direction, chunk=4)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    upstream = torch.randn_like(found)
    grads = [torch.autograd.grad(h, (x, lam, logits), upstream) for h in (found, expected)]
    for mine, theirs in zip(*grads, strict=True):  # torch's own gradient of the normalization
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)


@weights
def test_logits_of_four_directions(weights: Weights) -> None:
    x, lam, logits = operands(weights=weights, scans=4)
    found = line_scan4(x, lam, logits, chunk=5, logits=True)
    apart = [
        line_scan(x, lam[i], logits[i], direction=direction, chunk=5, logits=True)
        for i, direction in enumerate(DIRECTIONS)
    ]
    assert torch.equal(found, torch.stack(apart))
    upstream = torch.randn_like(found)
    grads = [
        torch.autograd.grad(h, (x, lam, logits), upstream) for h in (found, torch.stack(apart))
    ]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)


@weights
def test_four_directions_with_an_output_scale(weights: Weights) -> None:
    x, lam, w = operands(weights=weights, scans=4)
    planes = torch.randn(4, 3, 2, 5, 7, dtype=x.dtype, requires_grad=True)
    u = planes.transpose(1, 2)  # channel by channel in memory
    lam = lam.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    scaled = line_scan4(x, lam, w, u=u, chunk=3)
    expected = u * line_scan4(x, lam, w, chunk=3)
    assert torch.equal(scaled, expected)
    assert scaled.stride() == lam.stride() == u.stride()
    upstream = torch.randn_like(scaled)
    grads = [torch.autograd.grad(y, (x, lam, w, planes), upstream) for y in (scaled, expected)]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_an_output_scale_in_autocast_and_of_no_elements() -> None:
    x, lam, w = operands(dtype=torch.float32, scans=4)
    with torch.autocast("cpu", torch.bfloat16):
        scaled = line_scan4(x, lam.bfloat16(), w, u=lam)
    assert scaled.dtype == torch.bfloat16
    scaled.sum().backward()  # type: ignore[no-untyped-call]
    assert lam.grad is not None
    assert lam.grad.dtype == torch.float32
    empty = operands((2, 0, 5, 7), scans=4)
    assert line_scan4(*empty, u=empty[1]).shape == (4, 2, 0, 5, 7)


def test_extreme_logits_have_finite_gradients() -> None:
    x, lam, logits = operands(dtype=torch.float32)
    with torch.no_grad():
        logits.mul_(1e4)
    line_scan(x, lam, logits, logits=True).square().sum().backward()  # type: ignore[no-untyped-call]
    for tensor in (x, lam, logits):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_what_is_not_contiguous_gives_the_same() -> None:
    x, lam, w = (tensor.detach() for tensor in operands())
    strided = [tensor.mT.contiguous().mT for tensor in (x, lam, w)]
    assert not any(tensor.is_contiguous() for tensor in strided)
    assert torch.equal(line_scan(*strided), line_scan(x, lam, w))


# Modes.


def test_inference_mode() -> None:
    arguments = operands()
    expected = line_scan(*arguments)
    with torch.inference_mode():
        found = line_scan(*arguments)
    assert found.is_inference()
    assert torch.equal(found, expected.detach())


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("scans", [None, 4])
def test_autocast_casts_and_gradients_come_back_in_the_type_of_what_they_are_of(
    scans: int | None,
    logits: bool,
) -> None:
    call: Any = partial(line_scan if scans is None else line_scan4, logits=logits)
    x, lam, w = operands(dtype=torch.float32, scans=scans)
    with torch.no_grad():
        mixed = (x, lam.bfloat16(), w)
    for tensor in mixed:
        tensor.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        h = call(*mixed)
    assert h.dtype == torch.bfloat16
    assert torch.equal(h, call(*(tensor.bfloat16() for tensor in mixed)))
    h.sum().backward()  # type: ignore[no-untyped-call]
    for tensor in mixed:
        assert tensor.grad is not None
        assert tensor.grad.dtype == tensor.dtype


def test_autocast_leaves_float64() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert line_scan(*operands()).dtype == torch.float64


def test_tensors_without_data_have_shapes() -> None:
    x, lam, w = (tensor.detach().to("meta") for tensor in operands(scans=4))
    h = line_scan4(x, lam, w)
    assert (h.shape, h.device.type) == (lam.shape, "meta")
    with pytest.raises(ValueError, match="w: shape"):
        line_scan4(x, lam, w[0])


# Sizes of 0, which scaled_dot_product_attention takes too.


@weights
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("scans", [None, 4])
@pytest.mark.parametrize("axis", range(4))
def test_a_size_of_zero(axis: int, scans: int | None, logits: bool, weights: Weights) -> None:
    shape = [2, 3, 5, 7]
    shape[axis] = 0
    arguments = operands(tuple(shape), weights, torch.float32, scans)
    call = line_scan if scans is None else line_scan4
    h = call(*arguments, chunk=2, logits=logits)
    assert (h.shape, h.dtype) == (arguments[1].shape, torch.float32)
    for tensor, grad in zip(arguments, torch.autograd.grad(h.sum(), arguments), strict=True):
        assert grad.shape == tensor.shape
        assert not grad.any()


@weights
@pytest.mark.parametrize("direction", ["left", ALL])
def test_a_size_of_zero_launches_nothing(direction: str, weights: Weights) -> None:
    """The code for GPUs; it would launch kernels of a rung that does not exist."""
    scans = 4 if direction == ALL else None
    x, lam, w = operands((2, 0, 5, 7), weights, torch.float32, scans)
    assert gpu.forward(x, lam, w, direction, None, "r99", True).shape == lam.shape
    grad_x, grad_lam, grad_w = gpu.backward(lam, x, lam, w, lam, direction, None, "r99")
    assert (grad_x.shape, grad_lam.shape) == (lam.shape, lam.shape)
    assert torch.equal(grad_w, torch.zeros_like(w))


def test_weights_of_no_logits() -> None:
    assert normalize_weights(torch.zeros(3, 0, 4, 4)).shape == (3, 0, 4, 4)
    assert normalize_weights(torch.zeros(3, 2, 0, 4), direction="left").shape == (3, 2, 0, 4)


def test_the_chunk_of_a_scan_without_lines() -> None:
    with pytest.raises(ValueError, match="chunk: 0 is below 1"):
        line_scan(*operands((1, 1, 0, 3)), chunk=0)


# Bad input.

GOOD: dict[str, Any] = dict(zip(("x", "lam", "w"), operands(), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": GOOD["x"][0]}, r"x: shape \(3, 5, 7\), expected four sizes, \(N, C, H, W\)"),
        ({"x": GOOD["x"][:, :, :0]}, r"lam: shape \(2, 3, 5, 7\), expected \(2, 3, 0, 7\)"),
        ({"x": 1.0}, r"x: float, expected a torch.Tensor"),
        ({"lam": GOOD["lam"][..., 1:]}, r"lam: shape \(2, 3, 5, 6\), expected \(2, 3, 5, 7\)"),
        (
            {"w": GOOD["w"][:, :, :2]},
            r"w: shape \(3, 2, 2, 5, 7\), expected \(3, 2, 3, 5, 7\) or, shared by the channels, "
            r"\(3, 2, 5, 7\)",
        ),
        ({"w": GOOD["w"][:2]}, r"w: shape \(2, 2, 3, 5, 7\), expected \(3, 2, 3, 5, 7\)"),
        ({"w": GOOD["w"].float()}, r"w: torch.float32, expected torch.float64, as x"),
        ({"lam": GOOD["lam"].half()}, r"lam: torch.float16, expected torch.float64, as x"),
        ({"x": GOOD["x"].detach().long()}, r"x: torch.int64 on cpu, expected float32, float16"),
        ({"direction": "north"}, r"direction: 'north' is not one of down, up, right, left"),
        ({"chunk": 0}, r"chunk: 0 is below 1"),
        ({"chunk": 6}, r"chunk: 6 is above the scan length, 5"),
        ({"chunk": 8, "direction": "left"}, r"chunk: 8 is above the scan length, 7"),
        ({"chunk": 2.0}, r"chunk: 2.0 is not a whole number"),
        ({"chunk": True}, r"chunk: True is not a whole number"),
        ({"direction": None}, r"direction: None, expected a string"),
        ({"rung": 7}, r"rung: 7, expected a string"),
        ({"logits": 1}, r"logits: 1 is neither True nor False"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        line_scan(**(GOOD | change))


def test_bad_input_of_four() -> None:
    x, lam, w = operands(scans=4)
    with pytest.raises(ValueError, match=r"lam: shape .* expected \(4, 2, 3, 5, 7\)"):
        line_scan4(x, lam[0], w)
    with pytest.raises(ValueError, match="chunk: 8 is above the scan length, 7"):
        line_scan4(x, lam, w, chunk=8)


def test_a_bad_output_scale_is_named() -> None:
    x, lam, w = operands(scans=4)
    bad: list[tuple[Any, str]] = [
        (2.0, "u: float, expected a torch.Tensor"),
        (lam[0], r"u: shape \(2, 3, 5, 7\), expected \(4, 2, 3, 5, 7\)"),
        (lam.float(), "u: torch.float32 on cpu, expected torch.float64 on cpu, as lam"),
        (lam.to("meta"), "u: torch.float64 on meta, expected torch.float64 on cpu, as lam"),
    ]
    for u, message in bad:
        with pytest.raises(ValueError, match=message):
            line_scan4(x, lam, w, u=u)


def test_tensors_on_two_devices_are_refused() -> None:
    x, lam, w = (tensor.detach() for tensor in operands())
    with pytest.raises(ValueError, match="lam: on cpu, expected meta, as x"):
        line_scan(x.to("meta"), lam, w)


# Weights.


@directions
@weights
def test_weights_share_one_between_the_neighbours_inside(
    direction: Direction, weights: Weights
) -> None:
    logits = 5 * operands(weights=weights)[2].detach()
    w = normalize_weights(logits, direction=direction)
    line = -1 if direction in ("down", "up") else -2
    size = w.shape[line]
    assert not w[0].select(line, 0).any()
    assert not w[2].select(line, size - 1).any()
    inner = logits.narrow(line, 1, size - 2).sigmoid()
    torch.testing.assert_close(w.narrow(line, 1, size - 2), inner / inner.sum(0))
    first = logits[1:].select(line, 0).sigmoid()
    torch.testing.assert_close(w[1:].select(line, 0), first / first.sum(0))
    torch.testing.assert_close(w.sum(0), torch.ones_like(w[0]))


def test_weights_of_a_line_of_one_element_are_in_the_middle() -> None:
    w = normalize_weights(torch.randn(3, 2, 4, 1))
    assert w.flatten(1).T.tolist() == [[0, 1, 0]] * 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_extreme_logits_are_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([-1e4, -1e4, 1e4], dtype=dtype).repeat(4, 1).T
    logits = logits.reshape(3, 1, 1, 4).requires_grad_()
    w = normalize_weights(logits)
    w.square().sum().backward()  # type: ignore[no-untyped-call]
    assert w.dtype == dtype
    assert w[:, 0, 0].T.tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 1], [0.5, 0.5, 0]]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("logits", "direction", "message"),
    [
        (
            torch.zeros(2, 1, 4, 4),
            "down",
            r"logits: shape \(2, 1, 4, 4\), expected \(3, N, C, H, W",
        ),
        (torch.zeros(3, 4, 4), "down", r"logits: shape \(3, 4, 4\)"),
        (torch.zeros(3, 1, 4, 4).long(), "down", r"logits: torch.int64, expected a floating"),
        ([1.0], "down", r"logits: list, expected a torch.Tensor"),
        (torch.zeros(3, 1, 4, 4), "sideways", r"direction: 'sideways' is not one of down, up"),
    ],
)
def test_bad_logits_are_named(logits: Any, direction: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normalize_weights(logits, direction=direction)


# The kernels: here in the simulator, which takes tensors of the CPU.


@pytest.mark.parametrize(
    ("direction", "weights"), [*product(("up", "left"), WEIGHTS), (ALL, "shared")]
)
def test_the_kernels_are_bound_to_the_same_function(
    direction: str, weights: Weights, device: str
) -> None:
    if device != "cpu":
        pytest.skip("the simulator's part; test_ops_gpu.py has the GPU's")
    x, lam, w = operands(
        (1, 2, 3, 5), weights, torch.float32, scans=4 if direction == ALL else None
    )
    x, lam, w = x.detach().mT.contiguous().mT, lam.detach(), w.detach()
    found = gpu.forward(x, lam, w, direction, 3, "r07")
    expected = scan(x, lam, w, direction, 3, "r07")
    torch.testing.assert_close(found, expected)

    grad_h = torch.randn(lam.shape)
    grads = gpu.backward(grad_h, x, lam, w, expected, direction, 3, "r07")
    made = [
        cpu.backward(x, *own, direction=towards, chunk=3)
        for towards, own in each(direction, lam, w, expected, grad_h)
    ]
    for mine, theirs in zip(grads, zip(*made, strict=True), strict=True):
        torch.testing.assert_close(mine, torch.stack(theirs).reshape(mine.shape))


@pytest.mark.parametrize(
    ("direction", "weights", "rung"),
    [("up", "channel", "r07"), ("right", "shared", "r07"), (ALL, "shared", "r07"),
     ("down", "channel", "r04")],
)  # fmt: skip
def test_the_kernels_normalize_logits_or_are_given_weights(
    direction: str, weights: Weights, rung: str, device: str
) -> None:
    if device != "cpu":
        pytest.skip("the simulator's part; test_ops_gpu.py has the GPU's")
    arguments = operands(
        (1, 2, 3, 4), weights, torch.float32, scans=4 if direction == ALL else None
    )
    x, lam, w = (tensor.detach() for tensor in arguments)
    found = gpu.forward(x, lam, w, direction, 2, rung, True)
    torch.testing.assert_close(found, scan(x, lam, w, direction, 2, rung, True))


def test_a_cpu_never_needs_numba() -> None:
    program = (
        "import sys, torch\n"
        "from gspn2bench.ops import line_scan\n"
        "from gspn2bench.nn import gspn2_tiny\n"
        "line_scan(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), torch.ones(3, 1, 2, 2))\n"
        "assert 'numba' not in sys.modules\n"
    )
    command = [sys.executable, "-P", "-c", program]
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
