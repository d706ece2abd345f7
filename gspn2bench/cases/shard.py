"""A shard of a sweep: every N-th case, for job arrays that share nothing while they run."""

import re
from collections.abc import Sequence
from typing import TypeVar

from gspn2bench.errors import UsageError
from gspn2bench.records.schema import Shard

Item = TypeVar("Item")


def parse_shard(text: str) -> Shard:
    """Parse a shard written as "3/8": the third of eight.

    Raises:
        UsageError: it is not K/N with 1 <= K <= N.
    """
    parts = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip(), re.ASCII)
    index, count = (int(part) for part in parts.groups()) if parts else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(f"--shard: {text!r} is not K/N with K from 1 to N, such as 3/8")
    return Shard(index=index, count=count)


def shard_of(items: Sequence[Item], shard: Shard | None) -> tuple[Item, ...]:
    """The items of a shard, in order; all of them if there is no shard.

    Items are dealt out one by one, so neighbours, which take similar times, go to different shards.
    Any number of shards covers every item exactly once. A shard is empty if it comes after the last
    item.
    """
    if shard is None:
        return tuple(items)
    return tuple(items[shard.index - 1 :: shard.count])
