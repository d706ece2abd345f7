"""The block of ``expand``: how its threads divide the channels and positions of tokens."""

from dataclasses import dataclass
from typing import Final

from gspn2bench.kernels.jit import WARP
from gspn2bench.problem import ITEM_BYTES, ceil_div

THREADS: Final = 384
"""Most threads per block: two blocks fit a multiprocessor with up to 80 registers per thread."""
MANY_WEIGHTS: Final = 32
"""Weights per thread above which a block has fewer threads, because they take more registers."""
TILE: Final = 64
"""Most positions per block."""
WORD_BYTES: Final = 8
"""Most bytes that a thread stores at once."""
ENOUGH_THREADS: Final = 98_304
"""Threads that occupy a GPU. With fewer positions than they could compute, tiles are smaller."""


@dataclass(frozen=True)
class ExpandBlock:
    """The constants that a kernel is compiled with.

    Args:
        dtype: storage type of all tensors.
        planes: planes, K.
        channels: channels of a token, C.
        has_bias: whether the sums start at a bias.
        max_threads: threads per block, at most.
        tile: positions per block, at most; one third of ``max_threads`` or less, because a thread
            stages one position.
    """

    dtype: str
    planes: int
    channels: int
    has_bias: bool
    max_threads: int = THREADS
    tile: int = TILE

    @property
    def pack(self) -> int:
        """Channels per word: the widest words that divide a token."""
        pack = WORD_BYTES // ITEM_BYTES[self.dtype]
        while self.channels % pack:
            pack //= 2
        return pack

    @property
    def word_bytes(self) -> int:
        """Bytes per word."""
        return self.pack * ITEM_BYTES[self.dtype]

    @property
    def token_words(self) -> int:
        """Words per token."""
        return self.channels // self.pack

    @property
    def available_threads(self) -> int:
        """Threads per block that can have a word."""
        if self.planes * self.pack <= MANY_WEIGHTS:
            return self.max_threads
        return self.max_threads * 2 // 3

    @property
    def parts(self) -> int:
        """Blocks that share a token."""
        return ceil_div(self.token_words, self.available_threads)

    @property
    def width(self) -> int:
        """Words of a token per block."""
        return ceil_div(self.token_words, self.parts)

    @property
    def lanes(self) -> int:
        """Positions that a block computes at the same time."""
        return min(self.tile, self.available_threads // self.width)

    @property
    def threads(self) -> int:
        """Threads per block, a multiple of a warp."""
        return ceil_div(self.width * self.lanes, WARP) * WARP

    def span(self, positions: int) -> int:
        """Positions per block, a multiple of the lanes.

        Args:
            positions: of the whole product.
        """
        steps = ceil_div(positions * self.token_words, ENOUGH_THREADS)
        return self.lanes * min(steps, self.tile // self.lanes)
