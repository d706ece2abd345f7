"""GSPN-2 on a real GPU: kept weights on several streams, in CUDA graphs and on two devices."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from gspn2bench.nn import GSPN2Attention
from gspn2bench.nn.attention import FOLDED

pytestmark = pytest.mark.gpu
proxies = pytest.mark.parametrize("proxy", [2, FOLDED + 1, 16])


def build(proxy: int, device: str = "cuda") -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    module = GSPN2Attention(64, proxy).to(device).eval().requires_grad_(False)
    tokens = torch.randn(2, 24 * 40, 64, device=device)
    return module, tokens


def call(module: Any, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = module(tokens, (24, 40))
    return output


def close(output: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(output, expected, rtol=2e-3, atol=2e-3)


@proxies
def test_it_computes_the_same_as_on_a_cpu(proxy: int) -> None:
    module, tokens = build(proxy)
    output = call(module, tokens)
    assert torch.equal(call(module, tokens), output)
    close(output.cpu(), call(module.cpu(), tokens.cpu()))


@proxies
def test_streams_share_kept_weights(proxy: int) -> None:
    module, tokens = build(proxy)
    streams = [torch.cuda.Stream() for _ in range(2)]  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    for factor in (1.0, 1.5):
        module.up.weight.mul_(factor)
        torch.cuda.synchronize()
        outputs = []
        for stream in streams:
            with torch.cuda.stream(stream):
                torch.cuda._sleep(10_000_000)
                outputs.append(call(module, tokens))
        torch.cuda.synchronize()
        expected = call(module.train(), tokens)
        module.eval()
        for output in outputs:
            close(output, expected)


@proxies
def test_a_graph_reads_kept_weights_which_stay_allocated(proxy: int) -> None:
    module, tokens = build(proxy)
    expected = call(module, tokens)
    entry = module.scans.kept._entry
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call(module, tokens)
    assert module.scans.kept._entry is entry
    module.up.weight.mul_(1.5)
    changed = call(module, tokens)
    assert module.scans.kept._entry is not entry
    noise = [torch.full((64, 64), torch.nan, device="cuda") for _ in range(100)]
    graph.replay()
    close(output, expected)  # the parameters at the time of the capture
    assert not torch.allclose(changed, expected)
    assert noise


@proxies
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_capture_keeps_nothing(proxy: int, mode: str) -> None:
    """Weights computed during a capture live in the graph's memory; replays follow parameters."""
    module, tokens = build(proxy)
    call(module, tokens)  # compiles the scan
    getattr(module, mode)()
    module.scans.kept.clear()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = call(module, tokens)
    assert not module.scans.kept._valid
    module.up.weight.mul_(1.5)
    graph.replay()
    close(output, call(module, tokens))


@pytest.mark.parametrize("kind", [{}, {"foreach": True}, {"fused": True}])
def test_an_optimizer_step(kind: Any) -> None:
    module, tokens = build(2)
    optimizer = torch.optim.AdamW(module.requires_grad_().parameters(), lr=0.1, **kind)
    before = call(module, tokens)
    module(tokens, (24, 40)).square().mean().backward()
    call(module, tokens)
    optimizer.step()
    output = call(module, tokens)
    assert not torch.allclose(output, before)
    close(output, call(module.train(), tokens))


@pytest.mark.parametrize(
    ("proxy", "dtype", "most"),
    [(2, torch.bfloat16, 3), (16, torch.bfloat16, 3), (2, torch.float32, 3), (9, torch.float32, 5)],
)
def test_launches_of_inference(proxy: int, dtype: torch.dtype, most: int) -> None:
    """One product, one scan and one product; or two products before and after it."""
    module, tokens = build(proxy)
    module, tokens = module.to(dtype), tokens.to(dtype)
    call(module, tokens)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiled:
        call(module, tokens)
        torch.cuda.synchronize()
    names = [e.name for e in profiled.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    launched = [name for name in names if "memset" not in name.lower()]
    assert 0 < len(launched) <= most, "\n".join(launched)


def test_a_module_that_moves_to_the_second_gpu() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    module, tokens = build(2)
    expected = call(module, tokens)
    output = call(module.to("cuda:1"), tokens.to("cuda:1"))
    assert output.device.index == 1
    close(output.cpu(), expected.cpu())


# Training.


def gradients(module: Any, tokens: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    tokens = tokens.detach().requires_grad_()
    module(tokens, (24, 40)).square().mean().backward()
    return {"tokens": tokens.grad, **{name: p.grad for name, p in module.named_parameters()}}  # type: ignore[dict-item]


@proxies
@pytest.mark.parametrize("rung", ["auto", "r07"])
def test_gradients_are_those_on_a_cpu(proxy: int, rung: str) -> None:
    module, tokens = build(proxy)
    module.requires_grad_().scans.rung = rung
    found = {name: value.cpu() for name, value in gradients(module, tokens).items()}
    for name, expected in gradients(module.cpu(), tokens.cpu()).items():
        atol = 2e-3 * float(expected.abs().max())
        torch.testing.assert_close(found[name], expected, rtol=2e-3, atol=atol)


def test_a_captured_step_follows_the_parameters() -> None:
    module, tokens = build(16)
    module.requires_grad_()
    gradients(module, tokens)  # compiles the kernels
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        gradients(module, tokens)
    torch.cuda.current_stream().wait_stream(side)
    module.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gradients(module, tokens)
    with torch.no_grad():
        module.up.weight.mul_(1.5)
    graph.replay()
    captured = {name: value.clone() for name, value in captured.items()}
    for name, expected in gradients(module, tokens).items():
        atol = 2e-3 * float(expected.abs().max())
        torch.testing.assert_close(captured[name], expected, rtol=2e-3, atol=atol)
