"""Planes to tokens: the kernel against torch in float64."""

import re

import pytest
import torch
from torch import Tensor

from gspn2bench.kernels import expand_block
from gspn2bench.kernels.expand import MAX_PLANES, prepare_expand, unsupported_reason
from gspn2bench.kernels.expand_block import ENOUGH_THREADS, ExpandBlock
from gspn2bench.kernels.jit import SIMULATED, counting_launches
from gspn2bench.problem import DTYPES, DType
from gspn2bench.workload.gate import TOLERANCE


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One warp per block: in the simulator each thread costs as much as one of a GPU's blocks."""
    if SIMULATED:
        monkeypatch.setattr(ExpandBlock.__init__, "__defaults__", (32, 4))
        monkeypatch.setattr(expand_block, "ENOUGH_THREADS", 32)


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
    launch = prepare_expand(inner, positions, channels, dtype, bias)
    launch(planes, weight, weight if start is None else start, tokens)
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


def test_as_many_planes_as_it_supports(device: str) -> None:
    compare(MAX_PLANES, 3, 8, "bfloat16", True, device)


@pytest.mark.skipif(not SIMULATED, reason="launches are counted in the simulator")
def test_it_is_one_launch(device: str) -> None:
    planes, weight, bias = operands(2, 5, 6, "float32", True, device)
    launch = prepare_expand(2, 5, 6, "float32", has_bias=True)
    with counting_launches() as count:
        launch(planes, weight, bias, planes.new_empty(5, 6))
    assert count.launches == 1


def test_sums_start_at_the_bias_in_float32(device: str) -> None:
    planes, weight = (torch.ones(2, 1), torch.tensor([[256.0], [-256.0]]))
    halves = [t.to(device, torch.bfloat16) for t in (planes, weight, torch.tensor([1 / 256]))]
    tokens = halves[0].new_empty(1, 1)
    prepare_expand(2, 1, 1, "bfloat16", has_bias=True)(*halves, tokens)
    assert tokens.item() == 1 / 256


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((8, 131072, 768), None),
        ((16, 1, 1), None),
        ((17, 1, 1), "planes: 17 is above 16"),
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


def test_unsupported_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="channels: 0 is below 1"):
        prepare_expand(1, 1, 0, "float32", has_bias=False)


@pytest.mark.parametrize(
    ("dtype", "planes", "channels", "expected"),
    [
        ("bfloat16", 8, 768, (4, 1, 192, 2, 384)),
        ("bfloat16", 12, 768, (4, 1, 192, 1, 192)),  # more registers
        ("bfloat16", 8, 640, (4, 1, 160, 2, 320)),
        ("float16", 8, 64, (4, 1, 16, 24, 384)),
        ("float32", 12, 768, (2, 1, 384, 1, 384)),
        ("float32", 8, 2049, (1, 6, 342, 1, 352)),  # an odd number of channels
    ],
)
def test_blocks(dtype: str, planes: int, channels: int, expected: tuple[int, ...]) -> None:
    block = ExpandBlock(dtype, planes, channels, True, expand_block.THREADS, expand_block.TILE)
    sizes = block.pack, block.parts, block.width, block.lanes, block.threads
    assert sizes == expected


@pytest.mark.parametrize(
    ("channels", "positions", "expected"),
    [
        (768, 131_072, 64),
        (512, 131_072, 63),  # three positions at a time
        (768, 4_096, 16),  # 256 blocks, which an H100 can run at once
        (768, 1, 2),
    ],
)
def test_positions_per_block(
    channels: int, positions: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expand_block, "ENOUGH_THREADS", ENOUGH_THREADS)
    block = ExpandBlock("bfloat16", 8, channels, True, expand_block.THREADS, expand_block.TILE)
    assert block.span(positions) == expected
