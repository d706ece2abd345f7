"""Where the elements of a line lie in shared memory.

A thread of the walk owns ``run`` adjacent positions. Position p of a line lies in slot
(p % run) * pitch + p // run + 1, so the threads of a warp access consecutive slots. The slots
before the first thread's and behind the last thread's hold the zeros outside the line.
"""

from functools import cache
from typing import Final, NamedTuple

from gspn2bench.kernels.jit import WARP

BANKS: Final = 32


class Slots(NamedTuple):
    """Distances in shared memory, in float32 values.

    Args:
        pitch: between adjacent positions of a thread.
        line: between adjacent lines.
    """

    pitch: int
    line: int


@cache
def choose_slots(walkers: int, run: int, pack: int, row_words: int, column_words: int) -> Slots:
    """The distances with the fewest bank conflicts when a warp writes its words to a tile.

    Args:
        walkers: threads that walk a line.
        run: positions per thread.
        pack: values per word.
        row_words: words per line of a tile of rows.
        column_words: words per position of a tile of columns.
    """
    best = (1000, 0, 0)
    for pitch in range(walkers + 2, walkers + 2 + BANKS):
        for line in range(run * pitch, run * pitch + BANKS):

            def slot(p: int, pitch: int = pitch) -> int:
                return p % run * pitch + p // run + 1

            rows = [q // row_words * line + slot(q % row_words * pack) for q in range(WARP)]
            columns = [
                q % column_words * pack * line + slot(q // column_words) for q in range(WARP)
            ]
            best = min(best, (_accesses(rows) + _accesses(columns), pitch, line))
        if best[0] == 2:
            break
    return Slots(*best[1:])


def _accesses(places: list[int]) -> int:
    """Accesses that shared memory needs for one value per thread of a warp."""
    banks = [place % BANKS for place in places]
    return max(banks.count(bank) for bank in banks)
