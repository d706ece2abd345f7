"""Planes to tokens: the kernel against torch in float64."""

import re

import pytest
import torch
from torch import Tensor

from gspn2bench.kernels import expand, expand_block
from gspn2bench.kernels.expand import bind_expand, unsupported_reason
from gspn2bench.kernels.expand_block import ExpandBlock
from gspn2bench.kernels.jit import SIMULATED, counting_launches
from gspn2bench.problem import DTYPES, DType
from gspn2bench.workload.gate import TOLERANCE


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One warp per block: in the simulator each thread costs as much as one of a GPU's blocks."""
    if SIMULATED:
        monkeypatch.setattr(ExpandBlock.__init__, "__defaults__", (32, 4, False))
        monkeypatch.setattr(expand, "ENOUGH_BLOCKS", 3)


def operands(
    inner: int, positions: int, channels: int, dtype: DType, bias: bool, device: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator).to(device, getattr(torch, dtype))

    return normal(inner, positions), normal(inner, channels), normal(channels) if bias else None


def compare(
    inner: int, positions: int, channels: int, dtype: DType, bias: bool, device: str
) -> None:
    planes, weight, start = operands(inner, positions, channels, dtype, bias, device)
    tokens = planes.new_full((positions, channels), torch.nan)
    bind_expand(planes, weight, start, tokens)()
    expected = planes.double().t() @ weight.double()
    if start is not None:
        expected += start.double()
    error = (tokens.double() - expected).abs().max()
    assert error <= TOLERANCE[dtype] * expected.abs().max()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("inner", "positions", "channels"),
    [
        (8, 13, 128),  # several tiles and a ragged one; 16-bit types: one position at a time
        (3, 9, 12),  # several positions at a time, threads without a word
        (1, 1, 1),
        (4, 5, 7),  # an odd number of channels: words of one value
        (2, 6, 70),  # two values per word; a token is divided among blocks, the last is not full
    ],
)
def test_it_is_the_product(
    inner: int, positions: int, channels: int, dtype: DType, bias: bool, device: str
) -> None:
    compare(inner, positions, channels, dtype, bias, device)


@pytest.mark.parametrize("inner", [16, 32])
def test_many_planes(inner: int, device: str) -> None:
    compare(inner, 3, 8, "bfloat16", True, device)


@pytest.mark.skipif(not SIMULATED, reason="launches are counted in the simulator")
def test_it_is_one_launch(device: str) -> None:
    planes, weight, bias = operands(2, 5, 6, "float32", True, device)
    call = bind_expand(planes, weight, bias, planes.new_empty(5, 6))
    with counting_launches() as count:
        call()
    assert count.launches == 1


def test_sums_start_at_the_bias_in_float32(device: str) -> None:
    planes, weight = (torch.ones(2, 1), torch.tensor([[256.0], [-256.0]]))
    halves = [t.to(device, torch.bfloat16) for t in (planes, weight, torch.tensor([1 / 256]))]
    tokens = halves[0].new_empty(1, 1)
    bind_expand(*halves, tokens)()
    assert tokens.item() == 1 / 256


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((8, 131072, 768), None),
        ((32, 1, 1), None),
        ((33, 1, 1), "planes: 33 is above 32"),
        ((0, 1, 1), "planes: 0 is below 1"),
        ((1, 0, 1), "positions: 0 is below 1"),
        ((1, 1, 0), "channels: 0 is below 1"),
        ((1, 2**40, 1), "positions: 1099511627776 take .* the largest grid"),
    ],
)
def test_unsupported_sizes(sizes: tuple[int, int, int], expected: str | None) -> None:
    reason = unsupported_reason(*sizes, "bfloat16")
    if expected is None:
        assert reason is None
    else:
        assert reason is not None
        assert re.fullmatch(expected, reason)


def test_a_misaligned_tensor_is_refused(device: str) -> None:
    planes, weight, _ = operands(2, 5, 8, "float32", False, device)
    shifted = torch.empty(5 * 8 + 1, device=device)[1:].view(5, 8)
    with pytest.raises(ValueError, match="tokens: address is not a multiple of 8 bytes"):
        bind_expand(planes, weight, None, shifted)


def test_blocks() -> None:
    table = ExpandBlock("bfloat16", 8, 768, True, expand_block.THREADS, expand_block.TILE)
    assert (table.pack, table.lanes, table.parts, table.threads) == (4, 1, 1, 192)
    long = ExpandBlock("float32", 8, 2049, True, expand_block.THREADS, expand_block.TILE)
    assert (long.pack, long.parts, long.width, long.threads) == (1, 9, 228, 256)
    short = ExpandBlock("float16", 8, 64, True, expand_block.THREADS, expand_block.TILE)
    assert (short.pack, short.lanes, short.threads) == (4, 16, 256)
