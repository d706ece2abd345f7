"""Scans that keep every K-th line of h: the same function and gradients as scans that keep all."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from gspn2bench.ops import line_scan, line_scan4
from gspn2bench.ops.blocks import Block, blocks_of
from gspn2bench.ops.check import ALL
from gspn2bench.ops.checkpoints import KeepEvery, checkpointed, checkpointed_backward
from gspn2bench.problem import DIRECTIONS, Direction, Weights
from gspn2bench.workload.gate import TOLERANCE

from ..helpers.ops_fixtures import directions, operands, weights

logits_or_weights = pytest.mark.parametrize("logits", [False, True])


def gradients(h: Tensor, inputs: tuple[Tensor, ...], upstream: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(h, inputs, upstream)


def held_to_all_lines(call: Any, inputs: tuple[Tensor, ...], keep_every: KeepEvery) -> None:
    """The result is equal, and gradients agree to rounding."""
    kept, expected = call(*inputs, keep_every=keep_every), call(*inputs)
    assert torch.equal(kept, expected)
    assert kept.stride() == expected.stride()
    upstream = torch.randn(kept.shape, generator=torch.Generator().manual_seed(1)).to(kept.dtype)
    tolerance = 1e-12 if kept.dtype == torch.float64 else 1e-5
    pairs = zip(*(gradients(h, inputs, upstream) for h in (kept, expected)), strict=True)
    for mine, theirs in pairs:
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@weights
@directions
@logits_or_weights
@pytest.mark.parametrize("chunk", [None, 2, 3, 5])
@pytest.mark.parametrize("keep_every", [1, 2, 3, 4, 9])
def test_gradients_are_those_of_the_ordinary_path(
    direction: Direction, weights: Weights, logits: bool, chunk: int | None, keep_every: int
) -> None:
    def call(*tensors: Tensor, **options: Any) -> Tensor:
        settings = {"direction": direction, "chunk": chunk, "logits": logits}
        return line_scan(*tensors, **settings, **options)  # type: ignore[arg-type]

    held_to_all_lines(call, operands((2, 3, 5, 7), weights), keep_every)


@weights
@logits_or_weights
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(("chunk", "keep_every"), [(None, 3), (4, 3), (None, "auto")])
def test_four_directions(
    weights: Weights, logits: bool, scaled: bool, chunk: int | None, keep_every: KeepEvery
) -> None:
    x, lam, w = operands((2, 3, 5, 7), weights, scans=4)
    u = torch.rand_like(lam).requires_grad_()

    def call(*tensors: Tensor, **options: Any) -> Tensor:
        x, lam, w, *rest = tensors
        output_scale = rest[0] if rest else None
        return line_scan4(x, lam, w, u=output_scale, chunk=chunk, logits=logits, **options)

    held_to_all_lines(call, (x, lam, w, u) if scaled else (x, lam, w), keep_every)


@weights
def test_float32_on_long_scans(weights: Weights) -> None:
    x, lam, w = operands((1, 2, 200, 40), weights, torch.float32)
    with torch.no_grad():
        w.abs_().div_(w.sum(0).clamp(min=0.1))

    def call(*tensors: Tensor, **options: Any) -> Tensor:
        return line_scan(*tensors, direction="up", logits=True, **options)

    for keep_every in (1, 16, "auto"):
        held_to_all_lines(call, (x, lam, w), keep_every)  # type: ignore[arg-type]


@weights
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_types_within_the_gate(dtype: str, weights: Weights) -> None:
    """A kept line is rounded to storage, and so is the gradient that a block passes on."""
    inputs = operands((1, 4, 40, 9), weights, getattr(torch, dtype))
    exact = tuple(tensor.detach().double().requires_grad_() for tensor in inputs)
    kept = line_scan(*inputs, logits=True, keep_every=8)
    expected = line_scan(*exact, logits=True)
    upstream = torch.randn(kept.shape, generator=torch.Generator().manual_seed(1)).to(kept.dtype)
    found = gradients(kept, inputs, upstream)
    for mine, theirs in zip(found, gradients(expected, exact, upstream.double()), strict=True):
        error = (mine.double() - theirs).abs().max() / theirs.abs().max()
        assert error <= TOLERANCE[dtype]  # type: ignore[index]


def test_tensors_channel_by_channel_in_memory() -> None:
    x, lam, w = operands((2, 3, 5, 7), "shared", scans=4)
    swapped = [t.detach().transpose(-4, -3).contiguous().transpose(-4, -3) for t in (x, lam)]
    inputs = (swapped[0].requires_grad_(), swapped[1].requires_grad_(), w)

    def call(*tensors: Tensor, **options: Any) -> Tensor:
        x, lam, w = tensors
        return line_scan4(x, lam, w, u=lam.detach() + 1, **options)

    held_to_all_lines(call, inputs, 2)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 1, 1, 6), (1, 2, 6, 1), (0, 2, 3, 4)])
@directions
def test_thin_and_empty_planes(shape: tuple[int, ...], direction: Direction) -> None:
    def call(*tensors: Tensor, **options: Any) -> Tensor:
        return line_scan(*tensors, direction=direction, **options)

    for keep_every in (1, 4):
        held_to_all_lines(call, operands(shape), keep_every)


@weights
@pytest.mark.parametrize("direction", [*DIRECTIONS, ALL])
@pytest.mark.parametrize("scaled", [False, True])
def test_opcheck(direction: str, weights: Weights, scaled: bool) -> None:
    several = direction == ALL
    x, lam, w = operands((1, 2, 3, 4), weights, torch.float32, 4 if several else None)
    u = torch.rand_like(lam).requires_grad_() if scaled and several else None
    options = (direction, 2, "r07", True, 2)
    opcheck(checkpointed, (x, lam, w, u, *options))
    plain = [tensor if tensor is None else tensor.detach() for tensor in (lam, x, lam, w, u)]
    _, kept = checkpointed(*plain[1:], *options)
    opcheck(checkpointed_backward, (*plain, kept, *options))


@weights
@logits_or_weights
def test_gradients_of_any_order(weights: Weights, logits: bool) -> None:
    def call(*tensors: Tensor) -> Tensor:
        return line_scan(*tensors, direction="left", chunk=3, logits=logits, keep_every=2)

    inputs = operands((1, 2, 3, 4), weights)
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


def test_gradients_of_any_order_of_four() -> None:
    x, lam, w = operands((1, 2, 3, 4), "shared", scans=4)
    u = torch.rand_like(lam).requires_grad_()

    def call(x: Tensor, lam: Tensor, w: Tensor, u: Tensor) -> Tensor:
        return line_scan4(x, lam, w, u=u, logits=True, keep_every=2)

    assert torch.autograd.gradcheck(call, (x, lam, w, u), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x, lam, w, u), fast_mode=True)


def test_backward_keeps_one_line_of_h_in_k() -> None:
    x, lam, w = operands((1, 2, 64, 8), "shared", torch.float32, 4)
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = line_scan4(x, lam, w, u=torch.ones_like(lam), logits=True, keep_every=16)
    inputs = {tensor.data_ptr() for tensor in (x, lam, w)}
    own = [tensor for tensor in saved if tensor.data_ptr() not in inputs]
    # u, and of h 4 lines of 8 positions in two directions and 1 line of 64 in two
    assert sorted(tensor.numel() for tensor in own) == [2 * (2 * 4 * 8 + 2 * 64), y.numel()]


def test_nothing_is_kept_without_gradients() -> None:
    x, lam, w = operands()
    with torch.no_grad():
        assert line_scan(x, lam, w, keep_every=2).grad_fn is None
    names = line_scan(x, lam, w, keep_every=2).grad_fn
    assert "checkpointed" in type(names).__name__


def test_bad_arguments_are_refused() -> None:
    x, lam, w = operands()
    for wrong, message in (
        (0, "keep_every: 0 is below 1"),
        (True, "keep_every: True is not a whole number, 'auto' or None"),
        ("all", "keep_every: 'all' is not a whole number, 'auto' or None"),
    ):
        with pytest.raises(ValueError, match=message):
            line_scan(x, lam, w, keep_every=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="u: given with direction 'down', expected 'all'"):
        checkpointed(x, lam, w, lam, "down", None, "r07", False, 2)
    with pytest.raises(ValueError, match="keep_every: 0 is below 1"):
        checkpointed(x, lam, w, None, "down", None, "r07", False, 0)


def test_operations_are_counted() -> None:
    x, lam, w = operands((1, 2, 8, 4), dtype=torch.float32)
    with FlopCounterMode(display=False) as counter:
        line_scan(x, lam, w, keep_every=4).sum().backward()  # type: ignore[no-untyped-call]
    assert counter.get_total_flops() == 2 * (4 + 4 + 8) * x.numel()


def test_it_compiles_without_a_graph_break_for_any_size() -> None:
    def call(x: Tensor, lam: Tensor, w: Tensor) -> Tensor:
        return line_scan4(x, lam, w, u=lam, logits=True, keep_every="auto")

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
    for height, width in ((5, 7), (6, 9), (40, 3)):
        inputs = operands((1, 2, height, width), "shared", torch.float32, 4)
        results = []
        for function in (call, compiled):
            y = function(*inputs)
            results.append((y, *gradients(y, inputs, torch.ones_like(y))))
        for mine, theirs in zip(*results, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_blocks_cover_the_scan_and_end_where_a_chunk_starts() -> None:
    for steps, chunk, keep_every in product((1, 5, 12), (1, 2, 3, 5, 12), (1, 2, 3, 4, 20)):
        chunk = min(chunk, steps)  # noqa: PLW2901
        blocks = list(reversed(list(blocks_of(steps, chunk, keep_every))))
        assert [line for block in blocks for line in range(*block[:2])] == list(range(steps))
        for block in blocks:
            assert block.continues == (block.start % chunk != 0)
            assert block.stop - block.start <= keep_every
            if block.continues:  # its first line is kept, and no chunk starts within it
                assert block.start % keep_every == 0
                assert block.start // chunk == (block.stop - 1) // chunk
    assert list(blocks_of(10, 10, 4)) == [Block(8, 10, True), Block(4, 8, True), Block(0, 4, False)]
