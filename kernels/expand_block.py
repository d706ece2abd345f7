"""The block of ``expand``: how its threads divide the channels and positions of tokens."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gspn2bench.kernels.jit import WARP
from gspn2bench.kernels.launch_limits import registers_per_thread
from gspn2bench.kernels.storage import storage_of
from gspn2bench.problem import ITEM_BYTES, ceil_div

THREADS: Final = 256
"""Most threads per block."""
TILE: Final = 64
"""Most positions that a block stages at once."""
WORD_BYTES: Final = 8
"""Most bytes that a thread stores at once."""


@dataclass(frozen=True)
class ExpandBlock:
    """The constants that a kernel is compiled with.

    Args:
        dtype: storage type of all tensors.
        planes: planes, K.
        channels: channels of a token, C.
        has_bias: whether the sums start at a bias.
        max_threads: threads per block, at most.
        tile: positions that a block stages at once, at most.
        streaming: whether stores are marked as the first to leave the caches.
    """

    dtype: str
    planes: int
    channels: int
    has_bias: bool
    max_threads: int = THREADS
    tile: int = TILE
    streaming: bool = False

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
    def word_type(self) -> Any:
        """NumPy type of a word."""
        unsigned = {4: np.uint32, 8: np.uint64}
        return storage_of(self.dtype).raw if self.pack == 1 else unsigned[self.word_bytes]

    @property
    def token_words(self) -> int:
        """Words per token."""
        return self.channels // self.pack

    @property
    def parts(self) -> int:
        """Blocks that share a token."""
        return ceil_div(self.token_words, self.max_threads)

    @property
    def width(self) -> int:
        """Words of a token per block."""
        return ceil_div(self.token_words, self.parts)

    @property
    def lanes(self) -> int:
        """Positions that a block computes at the same time."""
        return min(self.tile, self.max_threads // self.width)

    @property
    def threads(self) -> int:
        """Threads per block, a multiple of a warp."""
        return ceil_div(self.width * self.lanes, WARP) * WARP

    @property
    def max_registers(self) -> int:
        """Registers per thread with which one block fits a multiprocessor."""
        return registers_per_thread(self.threads)
