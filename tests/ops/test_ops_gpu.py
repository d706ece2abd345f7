"""The operator on a real GPU: the kernels give what a CPU gives, on any stream and device."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from gspn2bench.nn import GSPN2Attention
from gspn2bench.ops import expand, line_scan, line_scan4
from gspn2bench.ops.expand import FEW_PLANES, expand_op
from gspn2bench.ops.library import scan
from gspn2bench.problem import DIRECTIONS, DTYPES, WEIGHTS, Direction, DType, ScanProblem, Weights
from gspn2bench.workload import inputs
from gspn2bench.workload.gate import TOLERANCE

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning"),  # torch.func.jvp
]
Arguments = tuple[Tensor, Tensor, Tensor]
SHAPE = (2, 3, 63, 130)


def operands(
    direction: Direction = "down", dtype: DType = "float32", weights: Weights = "channel"
) -> Arguments:
    problem = ScanProblem(*SHAPE, dtype=dtype, direction=direction, weights=weights)
    made = inputs.make(problem, "cuda", seed=0)
    return made.x.requires_grad_(), made.lam.requires_grad_(), made.w.requires_grad_()


def of_four(weights: Weights = "shared") -> Arguments:
    each = [operands(direction, weights=weights) for direction in DIRECTIONS]
    _, lam, w = (torch.stack(tensors).detach().requires_grad_() for tensors in zip(*each))  # noqa: B905
    return each[0][0], lam, w


def close(found: Tensor, expected: Tensor, dtype: str = "float32") -> None:
    expected = expected.double().to(found.device)
    error = (found.double() - expected).abs().max() / expected.abs().max()
    assert error <= 2 * TOLERANCE[dtype]


def like_a_cpu(call: Any, arguments: Arguments, dtype: str = "float32") -> None:
    h = call(*arguments)
    upstream = torch.randn_like(h)
    grads = torch.autograd.grad(h, arguments, upstream)
    on_cpu = [tensor.detach().cpu().requires_grad_() for tensor in arguments]
    expected = call(*on_cpu)
    close(h, expected, dtype)
    for mine, theirs in zip(
        grads, torch.autograd.grad(expected, on_cpu, upstream.cpu()), strict=True
    ):
        close(mine, theirs, dtype)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_like_a_cpu(direction: Direction, dtype: DType, weights: Weights) -> None:
    like_a_cpu(
        lambda *tensors: line_scan(*tensors, direction=direction, chunk=50),
        operands(direction, dtype, weights),
        dtype,
    )


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_four_directions_like_a_cpu(weights: Weights, logits: bool) -> None:
    like_a_cpu(partial(line_scan4, logits=logits), of_four(weights))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rung", ["r07", "r05"])
def test_logits_like_a_cpu(rung: str, direction: Direction, dtype: DType) -> None:
    x, lam, w = operands(direction, dtype)
    with torch.no_grad():
        w.normal_(generator=torch.Generator("cuda").manual_seed(1))
    call = partial(line_scan, direction=direction, chunk=50, rung=rung, logits=True)
    like_a_cpu(call, (x, lam, w), dtype)


@pytest.mark.parametrize("direction", [*DIRECTIONS, "all"])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("logits", [False, True])
def test_second_derivatives_like_a_cpu(direction: Any, weights: Weights, logits: bool) -> None:
    """They are composed of the same kernels: one more scan, one more backward."""
    arguments = of_four(weights) if direction == "all" else operands(direction, "float32", weights)
    call: Any = line_scan4 if direction == "all" else partial(line_scan, direction=direction)

    def second(arguments: Any) -> tuple[Tensor, ...]:
        h = call(*arguments, chunk=50, logits=logits)
        grads = torch.autograd.grad(h.square().mean(), arguments, create_graph=True)
        scaled = [(grad / grad.detach().abs().max()).square().sum() for grad in grads]
        return torch.autograd.grad(scaled[0] + scaled[1] + scaled[2], arguments)

    on_cpu = [tensor.detach().cpu().double().requires_grad_() for tensor in arguments]
    for result, expected in zip(second(arguments), second(on_cpu), strict=True):
        error = (result.cpu().double() - expected).abs().max() / expected.abs().max()
        assert error < 1e-4


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_size_of_zero(weights: Weights) -> None:
    x, lam, w = (tensor.detach() for tensor in of_four(weights))
    empty = x[:0], lam[:, :0], w[:, :, :0]
    for tensor in empty:
        tensor.requires_grad_()
    h = line_scan4(*empty, logits=True)
    assert (h.shape, h.device.type) == ((4, 0, *SHAPE[1:]), "cuda")
    for tensor, grad in zip(empty, torch.autograd.grad(h.sum(), empty), strict=True):
        assert grad.shape == tensor.shape
    module = GSPN2Attention(16, 4, device="cuda")
    assert module(torch.zeros(0, 16, 5, 7, device="cuda")).shape == (0, 16, 5, 7)


def test_forward_mode_is_refused() -> None:
    x, lam, w = (tensor.detach() for tensor in operands())
    with pytest.raises(NotImplementedError, match="forward-mode"):
        torch.func.jvp(lambda t: line_scan(t, lam, w), (x,), (x,))


@pytest.mark.parametrize("proxy", [4, 12])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_module_whose_layers_are_called_is_the_folded_one(proxy: int, dtype: DType) -> None:
    torch.manual_seed(0)
    module = GSPN2Attention(16, proxy, device="cuda", dtype=getattr(torch, dtype))
    image = torch.randn(2, 16, 33, 20, device="cuda", dtype=getattr(torch, dtype))
    with torch.no_grad():
        folded = module(image)
        for layer in module.modules():
            layer.register_forward_hook(lambda *_: None)
        close(module(image), folded, dtype)


def test_opcheck() -> None:
    opcheck(scan, (*operands("left"), "left", None, "r07"))
    opcheck(scan, (*of_four(), "all", None, "r07"))
    opcheck(scan, (*of_four(), "all", None, "r07", True))


def test_compiled_without_a_graph_break() -> None:
    torch._dynamo.reset()
    function: Any = torch.compile(line_scan4, fullgraph=True, backend="aot_eager")
    like_a_cpu(function, of_four())


def test_autocast() -> None:
    with torch.autocast("cuda", torch.bfloat16):
        assert line_scan(*operands()).dtype == torch.bfloat16


def test_bad_input_is_named() -> None:
    x, lam, w = operands()
    with pytest.raises(ValueError, match=r"lam: on cpu, expected cuda:0, as x"):
        line_scan(x, lam.cpu(), w)
    with pytest.raises(ValueError, match=r"x: torch.float64 on cuda, expected float32, float16"):
        line_scan(x.double(), lam.double(), w.double())
    with pytest.raises(ValueError, match="rung: 'r99' is not one of r01"):
        line_scan(x, lam, w, rung="r99")


def test_two_streams_at_once() -> None:
    x, lam, w = (tensor.detach() for tensor in of_four())
    expected = line_scan4(x, lam, w)
    torch.cuda.synchronize()
    found = []
    for stream in (torch.cuda.Stream(), torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            torch.cuda._sleep(10_000_000)  # what came first on the stream is waited for
            doubled = 2 * x
            found.append(line_scan4(doubled, lam, w))
    torch.cuda.synchronize()
    for h in found:
        close(h, 2 * expected)


def test_captured_in_a_cuda_graph() -> None:
    x, lam, w = (tensor.detach() for tensor in of_four())
    line_scan4(x, lam, w)  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        h = line_scan4(x, lam, w)
    x.mul_(-3)
    graph.replay()
    close(h, line_scan4(x, lam, w))


def test_a_tensor_of_the_second_gpu() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    moved = [tensor.detach().to("cuda:1") for tensor in of_four()]
    on_cpu = [tensor.cpu() for tensor in moved]
    h = line_scan4(*moved)
    assert (h.device.index, torch.cuda.current_device()) == (1, 0)
    close(h, line_scan4(*on_cpu))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_kept_lines_like_a_cpu(direction: Direction, dtype: DType, weights: Weights) -> None:
    like_a_cpu(
        partial(line_scan, direction=direction, chunk=50, keep_every=16),
        operands(direction, dtype, weights),
        dtype,
    )


@pytest.mark.alone
def test_kept_lines_of_four_directions_save_memory() -> None:
    sizes = (2, 8, 512, 512)
    x = torch.randn(sizes, device="cuda", requires_grad=True)
    lam, u = (torch.randn(4, *sizes, device="cuda").requires_grad_() for _ in range(2))
    logits = torch.randn(4, 3, 2, 512, 512, device="cuda", requires_grad=True)
    held, results = [], []
    for keep_every in (None, 32):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        y = line_scan4(x, lam, logits, u=u, logits=True, keep_every=keep_every)
        held.append(torch.cuda.memory_allocated() - before - 4 * y.numel())
        gradients = torch.autograd.grad(y, (x, lam, logits, u), torch.ones_like(y))
        results.append((y.detach(), *gradients))
        del y, gradients
    assert held[0] >= 4 * lam.numel()  # h
    assert held[1] <= 4 * lam.numel() / 32 + 2**20
    for mine, theirs in zip(*results, strict=True):
        close(mine, theirs)


def test_a_module_trains_like_on_a_cpu() -> None:
    torch.manual_seed(0)
    module = GSPN2Attention(16, 4)
    x = torch.randn(2, 16, 33, 20)
    upstream = torch.randn_like(x)
    module(x).backward(upstream)
    expected = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    module.cuda()(x.cuda()).backward(upstream.cuda())
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.cpu(), expected[name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inner", "channels"), [(8, 768), (3, 767), (FEW_PLANES + 1, 64)])
def test_planes_to_tokens(inner: int, channels: int, dtype: DType) -> None:
    sizes = (inner, 1003), (channels, inner), (channels,)
    on_gpu = tuple(
        torch.randn(size, device="cuda").to(getattr(torch, dtype)).requires_grad_()
        for size in sizes
    )
    like_a_cpu(expand, on_gpu, dtype)
    opcheck(expand_op, on_gpu)
