"""Inference with a prepared call, on a GPU or in the simulator."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gspn2bench.nn import GSPN2Attention, inference_plan
from gspn2bench.nn.check import Size


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[inference_plan.InferencePlan]:
    """Plans are used on every device; those that are made are listed."""
    made: list[inference_plan.InferencePlan] = []
    original = inference_plan._make

    def record(*arguments: object) -> inference_plan.InferencePlan | None:
        plan = original(*arguments)  # type: ignore[arg-type]
        if plan is not None:
            made.append(plan)
        return plan

    monkeypatch.setattr(inference_plan, "runs_kernels", lambda _: True)
    monkeypatch.setattr(inference_plan, "_make", record)
    inference_plan._plans.clear()
    return made


def infer(module: nn.Module, *arguments: object) -> Tensor:
    with torch.no_grad():
        output: Tensor = module(*arguments)
    return output


def build(device: str, proxy: int = 2, **options: object) -> GSPN2Attention:
    torch.manual_seed(0)
    return GSPN2Attention(16, proxy, **options).to(device).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize(("proxy", "bias", "chunk"), [(2, True, None), (3, False, 2), (2, True, 9)])
@pytest.mark.parametrize("batch", [1, 2])
def test_it_computes_the_same(
    proxy: int, bias: bool, chunk: int | None, batch: int, planned: list[object], device: str
) -> None:
    module = build(device, proxy, bias=bias, chunk=chunk)
    tokens = torch.randn(batch, 12, 16, device=device)
    output = infer(module, tokens, (3, 4))
    assert len(planned) == 1
    expected = module(tokens, (3, 4))  # with gradients: the usual way
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
    image = tokens.transpose(1, 2).reshape(batch, 16, 3, 4)
    torch.testing.assert_close(infer(module, image).flatten(2).transpose(1, 2), output)


def test_a_plan_is_made_once_per_kind_and_follows_the_weights(
    planned: list[object], device: str
) -> None:
    module = build(device)
    tokens = torch.randn(1, 6, 16, device=device)
    first = infer(module, tokens, (2, 3))
    assert torch.equal(infer(module, tokens, (2, 3)), first)
    infer(module, tokens, (3, 2))
    assert len(planned) == 2
    with torch.no_grad():
        module.scans.u_delta.bias.add_(1)
    changed = infer(module, tokens, (2, 3))
    assert len(planned) == 2
    assert not torch.allclose(changed, first)
    torch.testing.assert_close(changed, module(tokens, (2, 3)), rtol=1e-4, atol=1e-5)


SIZE: Size = (2, 3)


def test_where_no_plan_is_used(planned: list[object], device: str) -> None:
    """Under gradients, autocast and dispatch modes, with another scan, type or rung."""
    module = build(device)
    tokens = torch.randn(1, 6, 16, device=device)
    module(tokens, SIZE)
    with torch.autocast(device, torch.bfloat16):
        infer(module, tokens, SIZE)
    with FlopCounterMode(display=False) as counter:
        infer(module, tokens, SIZE)
    assert counter.get_total_flops() > 0
    infer(build(device, rung="r05" if device == "cuda" else "r07"), tokens, SIZE)
    replaced = build(device)
    replaced.scans.scan4 = lambda x, lam, w, *, u, **_: u * lam  # type: ignore[method-assign]
    infer(replaced, tokens, SIZE)
    infer(build(device), tokens[:0], SIZE)
    with pytest.raises(RuntimeError):
        infer(module, tokens.double(), SIZE)
    assert not planned
