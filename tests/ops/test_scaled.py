"""gspn2bench::scaled_scans, u h of four scans, against its composition from other operators."""

from typing import Any

import pytest
import torch
from torch import Tensor

from gspn2bench import ops  # noqa: F401  registers the operators
from gspn2bench.ops import gpu, plans, prepared
from gspn2bench.ops.plans import Options
from gspn2bench.ops.scaled import scaled_scans

NO_CHUNK = (None, "r09", True)


def tensors(
    *size: int,
    shared: bool = True,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    outermost: bool = False,
) -> list[Tensor]:
    """x, lam, w and u, which require gradients."""
    generator = torch.Generator(device).manual_seed(1)
    batch, channels, height, width = size
    sets = (batch,) if shared else (batch, channels)
    shapes = (
        size,
        (4, *size),
        (4, 3, *sets, height, width),
        (4, *size),
    )
    made = []
    for index, shape in enumerate(shapes):
        tensor = torch.randn(shape, generator=generator, device=device, dtype=dtype)
        if outermost and not (shared and index == 2):
            tensor = tensor.transpose(-4, -3).contiguous().transpose(-4, -3)
        made.append(tensor.requires_grad_())
    return made


def composed(x: Tensor, lam: Tensor, w: Tensor, u: Tensor, *options: Any) -> Tensor:
    h: Tensor = torch.ops.gspn2bench.line_scan(x, lam, w, "all", *options)
    return u * h


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("options", [NO_CHUNK, (2, "r09", True), (3, "r07", False)])
def test_values_and_gradients_are_those_of_the_composition(shared: bool, options: Any) -> None:
    inputs = tensors(2, 2, 3, 5, shared=shared)
    y, _ = scaled_scans(*inputs, *options, True)
    want = composed(*inputs, *options)
    assert torch.equal(y, want)
    grad = torch.randn_like(y)
    for got, expected in zip(
        torch.autograd.grad(y, inputs, grad), torch.autograd.grad(want, inputs, grad), strict=True
    ):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("shared", [True, False])
def test_gradients_of_any_order(shared: bool) -> None:
    inputs = tensors(1, 2, 3, 2, shared=shared)

    def call(*tensors: Tensor) -> Tensor:
        return scaled_scans(*tensors, 2, "r09", True, True)[0]  # type: ignore[call-arg]

    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize("with_h", [True, False])
@pytest.mark.parametrize("outermost", [True, False])
def test_opcheck(with_h: bool, outermost: bool, device: str) -> None:
    inputs = tensors(2, 3, 4, 4, dtype=torch.float32, device=device, outermost=outermost)
    if not with_h:
        inputs = [tensor.detach() for tensor in inputs]
    torch.library.opcheck(torch.ops.gspn2bench.scaled_scans, (*inputs, *NO_CHUNK, with_h))


def test_opcheck_of_backward(device: str) -> None:
    x, lam, w, u = (t.detach() for t in tensors(2, 3, 4, 4, dtype=torch.float32, device=device))
    arguments = (torch.randn_like(lam), x, lam, w, u, torch.randn_like(lam), *NO_CHUNK)
    torch.library.opcheck(torch.ops.gspn2bench.scaled_scans_backward, arguments)


def test_h_is_needed_for_gradients() -> None:
    inputs = tensors(1, 1, 2, 2)
    y, h = scaled_scans(*inputs, *NO_CHUNK, False)
    assert h.numel() == 0
    with pytest.raises(ValueError, match="with_h: False"):
        y.sum().backward()


def test_sizes_may_be_0() -> None:
    inputs = tensors(0, 2, 3, 4)
    y, _ = scaled_scans(*inputs, *NO_CHUNK, True)
    assert y.shape == (4, 0, 2, 3, 4)


def test_errors_name_u() -> None:
    x, lam, w, u = tensors(1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"u: shape \(4, 1, 2, 3, 3\), expected \(4, 1, 2, 3, 4\)"):
        scaled_scans(x, lam, w, u[..., :3], *NO_CHUNK, True)


# The kernels of r09, on a GPU or in the simulator.


@pytest.mark.parametrize("outermost", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_kernels_against_the_cpu(outermost: bool, shared: bool, device: str) -> None:
    size = {"shared": shared, "dtype": torch.float32, "outermost": outermost}
    x, lam, w, u = (t.detach() for t in tensors(2, 2, 3, 4, device=device, **size))  # type: ignore[arg-type]
    options = Options(2, "r09", True)
    y, h = gpu.scaled_forward(x, lam, w, u, options)
    assert y is not None
    assert h is not None
    cpu = [t.detach().cpu().double().requires_grad_() for t in (x, lam, w, u)]
    want_y, want_h = scaled_scans(*cpu, *options[:3], True)
    torch.testing.assert_close(h.cpu().double(), want_h, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(y.cpu().double(), want_y, rtol=1e-5, atol=1e-6)
    grad = torch.randn_like(y)
    results = gpu.scaled_backward(grad, x, lam, w, u, h, options)
    wanted = torch.autograd.grad(want_y, cpu, grad.cpu().double())
    grad_x = results[0].sum(0)
    for got, want in zip((grad_x, *results[1:]), wanted, strict=True):
        assert got is not None
        torch.testing.assert_close(got.cpu().double(), want, rtol=1e-4, atol=1e-5)


def test_a_plan_is_made_once_per_kind_and_their_number_is_bounded(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "MAX_PLANS", 2)
    plans._plans.clear()
    options = Options(None, "r09", True)
    made: list[Any] = []
    original = plans._make
    monkeypatch.setattr(plans, "_make", lambda *a: made.append(a) or original(*a))  # type: ignore[func-returns-value]
    for size in ((1, 1, 2, 2), (1, 1, 2, 2), (1, 1, 2, 3), (1, 1, 3, 2)):
        inputs = [t.detach() for t in tensors(*size, dtype=torch.float32, device=device)]
        plans.plan_of("forward", *inputs, options)  # type: ignore[arg-type]
    assert len(made) == 3
    assert len(plans._plans) <= 2


def test_a_tensor_at_an_odd_address_is_copied(device: str) -> None:
    x, lam, w, u = (t.detach() for t in tensors(1, 1, 2, 4, dtype=torch.float32, device=device))
    options = Options(None, "r09", True)
    want, _ = gpu.scaled_forward(x, lam, w, u, options)
    odd = torch.empty(x.numel() + 1, device=device)[1:].view(x.shape).copy_(x)
    assert odd.data_ptr() % prepared.WORD_BYTES
    y, _ = gpu.scaled_forward(odd, lam, w, u, options)
    assert y is not None
    assert want is not None
    assert torch.equal(y, want)


def test_a_wrong_call_is_refused_although_a_plan_exists(device: str) -> None:
    x, lam, w, u = (t.detach() for t in tensors(1, 1, 2, 4, dtype=torch.float32, device=device))
    options = Options(None, "r09", True)
    gpu.scaled_forward(x, lam, w, u, options)
    with pytest.raises(ValueError, match=r"u: torch\.float16"):
        gpu.scaled_forward(x, lam, w, u.half(), options)
    with pytest.raises(ValueError, match="lam: shape"):
        gpu.scaled_forward(x, lam[..., :3], w, u, options)


@pytest.mark.parametrize("shared", [True, False])
def test_a_bias_is_added_to_x_lam_u_and_w(shared: bool, device: str) -> None:
    inputs = [t.detach() for t in tensors(2, 2, 3, 4, shared=shared, dtype=torch.float32)]
    x, lam, w, u = inputs
    bias = torch.randn(18 + (12 if shared else 24))
    of_x, of_lam, of_u, of_w = bias.split([2, 8, 8, len(bias) - 18])
    sets = (1,) if shared else (1, 2)
    want, _ = scaled_scans(
        x + of_x.view(2, 1, 1),
        lam + of_lam.view(4, 1, 2, 1, 1),
        w + of_w.view(4, 3, *sets, 1, 1),
        u + of_u.view(4, 1, 2, 1, 1),
        *NO_CHUNK,
        False,
    )
    y, _ = scaled_scans(*inputs, *NO_CHUNK, False, bias)
    torch.testing.assert_close(y, want)
    options = Options(None, "r09", True, with_h=False)
    moved = [tensor.to(device) for tensor in (*inputs, bias)]
    by_kernel, _ = gpu.scaled_forward(*moved[:4], options, moved[4])
    assert by_kernel is not None
    torch.testing.assert_close(by_kernel.cpu(), want)


def test_a_wrong_bias_is_refused() -> None:
    inputs = [t.detach() for t in tensors(1, 1, 2, 2)]
    with pytest.raises(ValueError, match=r"bias: shape \(3,\), expected \(21,\)"):
        scaled_scans(*inputs, *NO_CHUNK, False, torch.zeros(3, dtype=torch.float64))
    biased = tensors(1, 1, 2, 2)
    with pytest.raises(ValueError, match="bias: given, expected None"):
        scaled_scans(*biased, *NO_CHUNK, True, torch.zeros(21, dtype=torch.float64))
