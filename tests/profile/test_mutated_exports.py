"""Random damage to real exports of nsys: refused in one line, or read as the file now stands.

SQLite has no checksums. A number that became a different possible number can't be noticed, so an
accepted file is judged by a second, shorter reading of the same file.
"""

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gspn2bench.records.schema import ProfiledTrial

from ..helpers.real_exports import outcome, real, run_of, trial

PAGE = 4096
FILES = {"graph-r07-fig3": 150, "eager-r01-quick": 100, "graph-r01-fig3": 25}
"""Files of each kind of damage, by export."""
VALUES = ("NULL", "0", "-1", "'x'", "x'00'", "1.5", "9223372036854775807", "-9223372036854775808")
READ = ("NVTX_EVENTS", "StringIds", "TARGET_INFO_GPU", "META_DATA_EXPORT")
READ += ("CUPTI_ACTIVITY_KIND_RUNTIME", "CUPTI_ACTIVITY_KIND_KERNEL")


def flip_bits(content: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def overwrite_bytes(content: bytearray, dice: random.Random) -> None:
    length = dice.choice((1, 2, 4, 16, 256))
    start = dice.randrange(len(content) - length)
    content[start : start + length] = dice.randbytes(length)


def damage_header(content: bytearray, dice: random.Random) -> None:
    content[dice.randrange(100)] = dice.randrange(256)


def truncate(content: bytearray, dice: random.Random) -> None:
    del content[dice.randrange(len(content)) :]


def exchange_pages(content: bytearray, dice: random.Random) -> None:
    one, other = (PAGE * dice.randrange(len(content) // PAGE) for _ in range(2))
    first, second = bytes(content[one : one + PAGE]), bytes(content[other : other + PAGE])
    content[one : one + PAGE] = dice.choice((second, bytes(PAGE)))
    content[other : other + PAGE] = first


def change_row(database: sqlite3.Connection, dice: random.Random) -> None:
    table = dice.choice(READ)
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    (rows,) = database.execute(f"SELECT max(rowid) FROM {table}").fetchone()
    row, column = dice.randint(1, rows), dice.choice(columns)
    if table == "StringIds":
        row = dice.choice([key for (key,) in database.execute("SELECT id FROM StringIds")])
    how = dice.choice(("set", "set", "move", "delete", "repeat"))
    if how == "delete":
        database.execute(f"DELETE FROM {table} WHERE rowid = {row}")
    elif how == "repeat":
        names = ", ".join(f'"{name}"' for name in columns)
        database.execute(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM {table} WHERE rowid = {row}"
        )
    else:
        value = dice.choice(VALUES)
        if how == "move":
            value = f'"{column}" + {dice.randint(-(10**8), 10**8)}'
        database.execute(f'UPDATE {table} SET "{column}" = {value} WHERE rowid = {row}')


def change_schema(database: sqlite3.Connection, dice: random.Random) -> None:
    table = dice.choice(READ)
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    column = dice.choice(columns)
    database.execute(
        dice.choice(
            (
                f"DROP TABLE {table}",
                f"DELETE FROM {table}",
                f"ALTER TABLE {table} RENAME TO {table}_V2",
                f'ALTER TABLE {table} RENAME COLUMN "{column}" TO "{column}V2"',
                f'UPDATE {table} SET "{column}" = {dice.choice(VALUES)}',
            )
        )
    )


BYTES = (flip_bits, overwrite_bytes, damage_header, truncate, exchange_pages)
ROWS = (change_row, change_schema)
DAMAGE = (*BYTES, *ROWS)


def damaged(name: str, damage: Callable[..., None], target: Path) -> Iterator[int]:
    """Write damaged copies of an export to a path, one after the other."""
    for seed in range(FILES[name]):
        dice = random.Random(f"{name} {damage.__name__} {seed}")
        if damage in BYTES:
            content = bytearray(real(name).read_bytes())
            damage(content, dice)
            target.write_bytes(content)
        else:
            shutil.copyfile(real(name), target)
            with closing(sqlite3.connect(target)) as database:
                try:
                    damage(database, dice)
                except sqlite3.IntegrityError:  # NOT NULL: the schema itself prevents it
                    continue
                database.commit()
        yield seed


def again(file: Path) -> tuple[int, float]:
    """Launches of the measured calls and their GPU time, ms, by a shorter reading."""
    with closing(sqlite3.connect(file.as_uri() + "?mode=ro&immutable=1", uri=True)) as database:
        rows = database.execute(
            "SELECT end - start, graphNodeId, start, end FROM CUPTI_ACTIVITY_KIND_KERNEL"
        ).fetchall()
    rows = [row for row in rows if row[1]] or rows
    assert all(0 < start < end for _, _, start, end in rows)
    return len(rows), sum(row[0] for row in rows) / 1e6


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_export_is_refused_or_read_as_it_stands(tmp_path, name, damage):
    file, run, intact = tmp_path / "a.sqlite", run_of(name), trial(real(name), run_of(name))
    verdicts = Counter[str]()
    for seed in damaged(name, damage, file):
        result = outcome(file, run)
        if not isinstance(result, ProfiledTrial):
            assert result.startswith("profile: "), (seed, result)
            assert len(result.splitlines()) == 1, (seed, result)
            verdicts["refused"] += 1
        elif result == intact:
            verdicts["same figures"] += 1
        else:
            launches, gpu_ms = again(file)
            assert result.launches == intact.launches, seed
            assert result.calls * result.launches == launches, seed
            assert result.calls * result.gpu_ms == pytest.approx(gpu_ms), seed
            verdicts["other figures"] += 1
    assert verdicts["refused"], verdicts
