"""Shards of a sweep: disjoint and complete for any number of them."""

import pytest

from gspn2bench.cases.shard import parse_shard, shard_of
from gspn2bench.errors import UsageError
from gspn2bench.records.schema import Shard


@pytest.mark.parametrize("count", range(1, 15))
@pytest.mark.parametrize("items", [0, 1, 2, 7, 12, 100])
def test_shards_are_disjoint_complete_and_even(items: int, count: int) -> None:
    shards = [shard_of(range(items), Shard(index=k, count=count)) for k in range(1, count + 1)]
    assert sorted(item for shard in shards for item in shard) == list(range(items))
    assert all(list(shard) == sorted(shard) for shard in shards)
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


def test_no_shard_is_everything() -> None:
    assert shard_of("abc", None) == ("a", "b", "c")


def test_a_shard_is_written_as_two_numbers() -> None:
    assert parse_shard("3/8") == Shard(index=3, count=8)
    assert str(parse_shard(" 8/8 ")) == "8/8"


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "1/0", "-1/8", "a/b", "1/2/3", "1.0/2"])
def test_other_shards_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard: .* is not K/N"):
        parse_shard(text)
