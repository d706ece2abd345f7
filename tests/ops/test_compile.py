"""The operator in torch.compile: one graph, any size, no recompilation."""

import shutil
from typing import Any

import pytest
import torch
from torch import Tensor

from gspn2bench.ops import line_scan, line_scan4, normalize_weights
from gspn2bench.problem import WEIGHTS, Weights

from ..helpers.ops_fixtures import operands


def stable_scan(x: Tensor, lam: Tensor, logits: Tensor) -> Tensor:
    w = normalize_weights(logits, direction="right")
    return line_scan(x.sin(), lam, w, direction="right", chunk=3).cos()


# No two sizes of the first call are equal: torch would assume that they always are.
@pytest.mark.parametrize("weights", WEIGHTS)
def test_compiled_once_without_a_graph_break_for_any_size(weights: Weights) -> None:
    """Not even for H = C, the third shape, or N = W, the fourth."""
    torch._dynamo.reset()
    function = torch.compile(stable_scan, fullgraph=True, backend="aot_eager", dynamic=True)
    shapes = [(2, 4, 5, 7), (5, 2, 9, 4), (4, 6, 6, 11), (7, 3, 4, 7)]
    for number, shape in enumerate(shapes):
        arguments = operands(shape, weights)
        with torch.compiler.set_stance("fail_on_recompile" if number else "default"):
            result = function(*arguments)
        expected = stable_scan(*arguments)
        torch.testing.assert_close(result, expected)
        grads = [torch.autograd.grad(h.sum(), arguments) for h in (result, expected)]
        torch.testing.assert_close(*grads)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_four_directions_with_a_chunk_compiled_once_for_any_size(weights: Weights) -> None:
    """Not even for H > W after H < W, although the chunk's bound is the longer of them."""
    torch._dynamo.reset()
    function: Any = torch.compile(line_scan4, fullgraph=True, backend="aot_eager", dynamic=True)
    for number, shape in enumerate([(2, 6, 7, 9), (3, 4, 9, 5), (3, 8, 8, 5)]):
        arguments = [tensor.detach() for tensor in operands(shape, weights, scans=4)]
        with torch.compiler.set_stance("fail_on_recompile" if number else "default"):
            result = function(*arguments, chunk=5)
        assert torch.equal(result, line_scan4(*arguments, chunk=5))


def test_logits_compiled_without_a_graph_break() -> None:
    torch._dynamo.reset()
    arguments = operands((2, 4, 5, 7), "shared", scans=4)
    function: Any = torch.compile(line_scan4, fullgraph=True, backend="aot_eager")
    found, expected = (call(*arguments, logits=True) for call in (function, line_scan4))
    assert torch.equal(found, expected)
    grads = [torch.autograd.grad(h.square().sum(), arguments) for h in (found, expected)]
    torch.testing.assert_close(*grads)


def test_compiled_for_any_chunk() -> None:
    torch._dynamo.reset()
    arguments = [tensor.detach() for tensor in operands((2, 4, 5, 7))]
    function = torch.compile(line_scan, fullgraph=True, backend="aot_eager", dynamic=True)
    for chunk in (2, 4, None):
        assert torch.equal(function(*arguments, chunk=chunk), line_scan(*arguments, chunk=chunk))


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as inductor is imported
def test_compiled_by_inductor() -> None:
    torch._dynamo.reset()
    arguments = operands()
    with torch.inference_mode():
        found = torch.compile(stable_scan, fullgraph=True)(*arguments)
        torch.testing.assert_close(found, stable_scan(*arguments))


def test_compiled_the_same_input_is_refused() -> None:
    x, lam, w = (tensor.detach() for tensor in operands())
    torch._dynamo.reset()
    function: Any = torch.compile(line_scan, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match=r"lam: shape .*expected \(2, 3, 5, 7\)") as caught:
        function(x, lam[:, :2], w)
    assert "ValueError" in str(caught.value)
