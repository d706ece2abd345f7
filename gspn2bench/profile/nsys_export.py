"""The SQLite export of Nsight Systems as a database: its tables, checked against the schema.

The schema changes between versions of nsys: tables and columns are renamed. SQLite columns accept
values of any type, and a damaged file may still open. A reader that takes what it finds would turn
such files into wrong figures. Here, every table and column is asked for by name and every value by
type, and what does not fit is refused.
"""

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from gspn2bench.profile.trace import UnreadableError

METADATA: Final = "META_DATA_EXPORT"
TYPES: Final = {int: "an integer", str: "a text"}


@dataclass(frozen=True)
class Column:
    """A column that is read.

    Args:
        name: its name in the schema.
        kind: type of its values.
        nullable: whether a value may be NULL.
    """

    name: str
    kind: type[int] | type[str] = int
    nullable: bool = False


class Export:
    """An open export; a context manager that closes it.

    Args:
        path: a file made by ``nsys export --type sqlite``. It is never written.

    Raises:
        UnreadableError: the file is not an SQLite database, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        # immutable: no lock and no journal beside the user's file
        address = path.resolve().as_uri() + "?mode=ro&immutable=1"
        try:
            self._database = sqlite3.connect(address, uri=True)
        except sqlite3.Error as error:
            raise UnreadableError(f"not an SQLite export of nsys: {error}") from error
        try:
            self._check()
            self._tables = self._table_names()
            self._metadata = dict(self._text_pairs())
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    @property
    def product_version(self) -> str | None:
        """Version of nsys; None if the export does not have it."""
        return self._metadata.get("EXPORT_PRODUCT_VERSION")

    @property
    def schema(self) -> str:
        """The schema version in words, for messages."""
        return f"schema {self._metadata.get('EXPORT_SCHEMA_VERSION', 'of unknown version')}"

    def has(self, table: str) -> bool:
        """Whether the export has a table; nsys omits empty ones.

        Raises:
            UnreadableError: the table is absent and one of a different version exists, such as
                NVTX_EVENTS_V2, which a newer schema may have instead.
        """
        if table in self._tables:
            return True
        versions = [name for name in self._tables if re.fullmatch(rf"{table}_?[Vv]?\d+", name)]
        if versions:
            raise UnreadableError(
                f"no table {table} ({self.schema}), but {', '.join(sorted(versions))}: this "
                "gspn2bench does not know that schema"
            )
        return False

    def require(self, table: str, reason: str = "") -> None:
        """Check that the export has a table.

        Args:
            table: its name.
            reason: why it may be missing, and a fix.

        Raises:
            UnreadableError: the table is absent; the message names it and the schema version.
        """
        if not self.has(table):
            raise UnreadableError(
                f"no table {table} ({self.schema}){': ' if reason else ''}{reason}"
            )

    def rows(self, table: str, *columns: Column) -> Iterator[tuple[Any, ...]]:
        """The rows of a table, in its order; none if the table is absent.

        Raises:
            UnreadableError: a column is missing, a value has a different type, or the file is
                damaged. The message names the table and the column.
        """
        if not self.has(table):
            return
        known = {str(row[1]) for row in self._select(f'PRAGMA table_info("{table}")')}
        for column in columns:
            if column.name not in known:
                raise UnreadableError(f"table {table} has no column {column.name} ({self.schema})")
        names = ", ".join(f'"{column.name}"' for column in columns)
        for number, row in enumerate(self._select(f'SELECT {names} FROM "{table}"'), 1):
            for column, value in zip(columns, row, strict=True):
                _check_value(f"table {table}, row {number}", column, value)
            yield row

    def _check(self) -> None:
        """Refuse a file whose pages are damaged; SQLite may read such a file without an error."""
        (verdict,) = next(self._select("PRAGMA quick_check(1)"), ("no verdict",))
        if verdict != "ok":
            first = str(verdict).splitlines()[-1]
            raise UnreadableError(f"not an SQLite export of nsys: damaged: {first}")

    def _table_names(self) -> frozenset[str]:
        query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        return frozenset(str(name) for (name,) in self._select(query))

    def _text_pairs(self) -> Iterator[tuple[str, str]]:
        self._metadata = {}
        columns = (Column("name", str, nullable=True), Column("value", str, nullable=True))
        for name, value in self.rows(METADATA, *columns):
            if name is not None and value is not None and value.isprintable():
                yield name, value

    def _select(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._database.execute(query)
        except (sqlite3.Error, UnicodeError) as error:
            raise UnreadableError(f"not an SQLite export of nsys: {error}") from error


def _check_value(place: str, column: Column, value: object) -> None:
    if value is None and column.nullable:
        return
    if type(value) is not column.kind:
        text = "NULL" if value is None else repr(value)[:40]
        raise UnreadableError(f"{place}: {column.name} is {text}, not {TYPES[column.kind]}")
