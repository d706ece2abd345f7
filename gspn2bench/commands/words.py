"""Comma-separated words of an option."""

from collections.abc import Sequence

from gspn2bench.errors import UsageError, unknown


def words_of(option: str, text: str, known: Sequence[str] = ()) -> tuple[str, ...]:
    """The words of an option, each once.

    Args:
        option: its name, for errors.
        text: comma-separated words, as given.
        known: the words there are; empty where any will do.

    Raises:
        UsageError: an empty or a repeated word, or one that is not known.
    """
    words = tuple(word.strip() for word in text.split(","))
    for word in words:
        if not word:
            raise UsageError(f"--{option}: an empty name in {text!r}")
        if words.count(word) > 1:
            raise UsageError(f"--{option}: {word!r} is given twice in {text!r}")
        if known and word not in known:
            raise unknown(option, word, known)
    return words
