"""Planes to tokens as an operator: a linear layer that reads planes, and what torch asks of one."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck
from torch.nn.functional import linear
from torch.utils.flop_counter import FlopCounterMode

from gspn2bench.kernels.expand_block import ExpandBlock
from gspn2bench.kernels.jit import SIMULATED, counting_launches
from gspn2bench.ops import expand, prepared
from gspn2bench.ops.expand import FEW_PLANES, expand_op, on_gpu
from gspn2bench.ops.prepared import WORD_BYTES
from gspn2bench.problem import DTYPES, DType
from gspn2bench.workload.gate import TOLERANCE

module = importlib.import_module("gspn2bench.ops.expand")  # the package has a function of this name
biased = pytest.mark.parametrize("bias", [False, True])
simulated = pytest.mark.skipif(not SIMULATED, reason="the simulator counts launches")


def operands(
    inner: int = 3,
    positions: int = 5,
    channels: int = 8,
    bias: bool = True,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(inner, positions), (channels, inner), (channels,)][: 3 if bias else 2]
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [tensor.to(dtype).requires_grad_() for tensor in values]


@biased
def test_it_is_a_linear_layer(bias: bool) -> None:
    planes, *parameters = operands(bias=bias)
    tokens = expand(planes, *parameters)
    expected = linear(planes.t(), *parameters)
    torch.testing.assert_close(tokens, expected, rtol=1e-13, atol=1e-13)
    assert tokens.is_contiguous()


@biased
def test_gradients_to_second_order(bias: bool) -> None:
    arguments = operands(2, 3, 4, bias)
    assert torch.autograd.gradcheck(expand, arguments)
    assert torch.autograd.gradgradcheck(expand, arguments)


def test_a_frozen_weight_has_no_gradient() -> None:
    planes, weight, bias = operands()
    expand(planes, weight.detach(), bias).sum().backward()  # type: ignore[no-untyped-call]
    assert planes.grad is not None
    assert bias.grad is not None
    assert weight.grad is None


def test_without_gradients_there_is_no_formula() -> None:
    arguments = operands()
    with torch.no_grad():
        assert not expand(*arguments).requires_grad
    detached = expand(*(tensor.detach() for tensor in arguments))
    assert not detached.requires_grad
    torch.testing.assert_close(detached, expand(*arguments).detach())


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_vmap_keeps_the_gradients() -> None:
    planes, *parameters = operands()
    stacked = torch.stack((planes, 2 * planes)).detach().requires_grad_()
    tokens = torch.vmap(lambda p: expand(p, *(tensor.detach() for tensor in parameters)))(stacked)
    expected = linear(stacked.mT, *parameters)
    torch.testing.assert_close(tokens, expected)
    (gradient,) = torch.autograd.grad(tokens.sum(), stacked)
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected.sum(), stacked))


@biased
@pytest.mark.parametrize("sizes", [(3, 5, 8), (3, 0, 8), (3, 5, 0)])
def test_torch_accepts_the_operator(sizes: tuple[int, int, int], bias: bool) -> None:
    planes, weight, *rest = operands(*sizes, bias=bias)
    opcheck(expand_op, (planes, weight, rest[0] if rest else None))


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_float32_on_a_cpu(dtype: DType) -> None:
    arguments = operands(40, 3, 4, dtype=getattr(torch, dtype))
    tokens = expand(*arguments)
    assert tokens.dtype == arguments[0].dtype
    planes, weight, bias = (tensor.double() for tensor in arguments)
    expected = linear(planes.t(), weight, bias)
    error = (tokens.double() - expected).abs().max()
    assert error <= TOLERANCE[dtype] * expected.abs().max()


def test_planes_of_no_row_give_the_bias() -> None:
    planes, weight, bias = operands(0, 5, 4)
    assert torch.equal(expand(planes, weight, bias), bias.expand(5, 4))
    assert torch.equal(on_gpu(planes, weight, bias), bias.expand(5, 4))


def test_it_compiles_with_dynamic_sizes() -> None:
    compiled = torch.compile(expand, backend="eager", fullgraph=True, dynamic=True)
    for positions in (5, 9):
        arguments = operands(positions=positions)
        torch.testing.assert_close(compiled(*arguments), expand(*arguments))


def test_autocast() -> None:
    arguments = operands(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert expand(*arguments).dtype == torch.bfloat16


def test_operations_are_counted() -> None:
    with FlopCounterMode(display=False) as counter:
        expand(*operands(3, 5, 8))
    assert counter.get_total_flops() == 2 * 3 * 5 * 8


# On a GPU: the kernel, in the simulator.


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExpandBlock.__init__, "__defaults__", (32, 4))


@simulated
@biased
@pytest.mark.parametrize(("inner", "launches"), [(3, 1), (FEW_PLANES + 1, 0)])
def test_a_gpu_uses_the_kernel_for_few_planes(
    inner: int, launches: int, bias: bool, small_blocks: None
) -> None:
    planes, *parameters = (tensor.detach() for tensor in operands(inner, 6, 8, bias, torch.float32))
    start = parameters[1] if bias else None
    with counting_launches() as count:
        tokens = on_gpu(planes, parameters[0], start)
    assert count.launches == launches
    torch.testing.assert_close(tokens, expand(planes, *parameters), rtol=1e-5, atol=1e-5)


@simulated
def test_any_layout_and_address(small_blocks: None) -> None:
    planes, weight, bias = (tensor.detach() for tensor in operands(3, 6, 8, True, torch.float32))
    expected = expand(planes, weight, bias)
    columns = planes.t().contiguous().t()
    transposed = weight.t().contiguous().t()
    shifted = [torch.zeros(t.numel() + 1)[1:].view(t.shape).copy_(t) for t in (planes, bias)]
    shifted_transposed = torch.zeros(25)[1:].view(3, 8).copy_(transposed.t()).t()
    for tensor in (*shifted, shifted_transposed):
        assert tensor.data_ptr() % WORD_BYTES
    for layout in (
        (columns, weight, bias),
        (planes, transposed, bias),
        (planes, weight, torch.stack((bias, bias), 1)[:, 0]),
        (shifted[0], weight, shifted[1]),
        (planes, shifted_transposed, bias),
    ):
        torch.testing.assert_close(on_gpu(*layout), expected, rtol=1e-5, atol=1e-5)


@simulated
def test_a_transposed_weight_is_not_copied(
    small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    planes, weight, bias = (tensor.detach() for tensor in operands(3, 6, 8, True, torch.float32))
    transposed = weight.t().contiguous().t()
    launched: list[Tensor] = []
    monkeypatch.setattr(module, "launch_on", lambda _device, _launch, *ts: launched.extend(ts))
    on_gpu(planes, transposed, bias)
    addresses = [tensor.data_ptr() for tensor in launched[:3]]
    assert addresses == [tensor.data_ptr() for tensor in (planes, transposed, bias)]


@simulated
def test_a_plan_is_made_once_per_kind_and_their_number_is_bounded(
    small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "MAX_PLANS", 2)
    module._plans.clear()
    made: list[Any] = []
    original = module._make
    monkeypatch.setattr(module, "_make", lambda *a: made.append(a) or original(*a))  # type: ignore[func-returns-value]
    for positions, bias in ((2, True), (2, True), (3, True), (2, False), (2, False)):
        inputs = [t.detach() for t in operands(3, positions, 8, bias, torch.float32)]
        on_gpu(inputs[0], inputs[1], inputs[2] if bias else None)
    assert len(made) == 3
    assert len(module._plans) <= 2


# Invalid arguments.


@simulated
def test_a_wrong_call_is_refused_although_a_plan_exists(small_blocks: None) -> None:
    planes, weight, bias = (tensor.detach() for tensor in operands(3, 6, 8, True, torch.float32))
    on_gpu(planes, weight, bias)
    with pytest.raises(ValueError, match=r"weight: torch\.float16 on cpu"):
        on_gpu(planes, weight.half(), bias)
    with pytest.raises(ValueError, match=r"weight: shape \(8, 2\)"):
        on_gpu(planes, weight[:, :2], bias)
    with pytest.raises(ValueError, match=r"bias: shape \(7,\)"):
        on_gpu(planes, weight, bias[:7])
    with pytest.raises(ValueError, match=r"bias: torch\.float32 on meta"):
        on_gpu(planes, weight, bias.to("meta"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"planes": None}, "planes: NoneType, expected a torch.Tensor"),
        ({"planes": torch.ones(3)}, r"planes: shape \(3,\), expected two sizes, \(K, P\)"),
        ({"planes": torch.ones(3, 5, dtype=torch.int64)}, "planes: torch.int64 on cpu, expected"),
        ({"weight": 1}, "weight: int, expected a torch.Tensor"),
        ({"weight": torch.ones(8, 4)}, r"weight: shape \(8, 4\), expected \(C, 3\), one column"),
        ({"weight": torch.ones(8, 3).half()}, "weight: torch.float16 on cpu, expected torch.float"),
        ({"bias": 0.0}, "bias: float, expected a torch.Tensor or None"),
        ({"bias": torch.ones(7)}, r"bias: shape \(7,\), expected \(8,\)"),
        ({"bias": torch.ones(8, device="meta")}, "bias: torch.float32 on meta, expected .* on cpu"),
    ],
)
def test_invalid_arguments(change: dict[str, object], message: str) -> None:
    arguments = {
        "planes": torch.ones(3, 5), "weight": torch.ones(8, 3), "bias": torch.ones(8)
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        expand(**arguments | change)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # torch.func.jvp
def test_forward_mode_is_refused() -> None:
    planes, weight, bias = operands()
    with pytest.raises(NotImplementedError, match="expand: forward-mode"):
        torch.func.jvp(lambda p: expand(p, weight, bias), (planes,), (planes,))
