"""Plant the mutations of mutations.toml, one by one, and see which ones the tests notice.

``make mutants`` runs all of them, and ``make mutants ONLY="gate timing"`` those whose file or idea
contains one of these words. ``ONLY=--gpu`` takes those that only a GPU can judge; they are left out
otherwise. Each mutation goes into a private copy of the tree. A mutation is caught if a test fails
or the tests exceed their time limit. The tests first run without any mutation: a test that fails
anyway proves nothing.

The exit code is 1 if a mutation survives, or if one cannot be judged: its text is gone or occurs
several times, its tests are gone, or the module no longer imports.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

GPU: Final = "--gpu" in sys.argv
os.environ["NUMBA_ENABLE_CUDASIM"] = "0" if GPU else "1"  # before numba is imported

ROOT: Final = Path(__file__).resolve().parents[2]
TABLE: Final = Path(__file__).with_name("mutations.toml")
PACKAGES: Final = {"gspn2bench": "", "kernels": "kernels", "scenarios": "scenarios"}
"""Folders of the package, and where they lie in it."""
LIMIT_S: Final = 240.0
"""Longest time for the tests of one mutation; it is a loop without an end if they take longer."""
FAILED: Final = 1
"""Pytest's exit code if a test failed; 0 if all passed, and others if it could not run them."""

LOG: Final = "log"
"""File in a copy of the tree, with the output of its tests."""

Result = Literal["caught", "survived", "equivalent", "not run", "error"]


@dataclass(frozen=True)
class Mutation:
    """One change of the code.

    Args:
        file: path in the repository.
        old: text to replace, which occurs once.
        new: its replacement.
        idea: what becomes wrong.
        tests: files and ids of tests, separated by spaces: the narrowest selection that must
            notice.
        equivalent: why no test can notice; empty if one must.
        gpu: whether the tests need a GPU.
    """

    file: str
    old: str
    new: str
    idea: str
    tests: str
    equivalent: str = ""
    gpu: bool = False


class UnplantableError(Exception):
    """A mutation does not apply; the message says why."""


def read_table() -> list[Mutation]:
    """The mutations of mutations.toml, in its order."""
    return [Mutation(**entry) for entry in tomllib.loads(TABLE.read_text())["mutation"]]


def mutated(mutation: Mutation) -> str:
    """The text of the file with the mutation.

    Raises:
        UnplantableError: the file is gone, or the old text does not occur exactly once.
    """
    path = ROOT / mutation.file
    if not path.is_file():
        raise UnplantableError(f"{mutation.file} is gone")
    source = path.read_text()
    if (count := source.count(mutation.old)) != 1:
        raise UnplantableError(f"the text occurs {count} times in {mutation.file}")
    return source.replace(mutation.old, mutation.new)


@contextmanager
def private_copy(mutation: Mutation | None) -> Iterator[Path]:
    """A copy of the tree with the mutation, deleted afterwards; its package is in ``site``."""
    replacement = None if mutation is None else mutated(mutation)
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        tree = Path(name)
        skip = shutil.ignore_patterns("__pycache__")
        for folder, place in PACKAGES.items():
            target = tree / "site" / "gspn2bench" / place
            shutil.copytree(ROOT / folder, target, ignore=skip, dirs_exist_ok=True)
        for folder in ("tests", "results"):
            shutil.copytree(ROOT / folder, tree / folder, ignore=skip)
        shutil.copy(ROOT / "pyproject.toml", tree)
        if mutation is not None and replacement is not None:
            folder, _, rest = mutation.file.partition("/")
            (tree / "site" / "gspn2bench" / PACKAGES[folder] / rest).write_text(replacement)
        yield tree


def exit_code(tree: Path, tests: str, limit_s: float = LIMIT_S) -> int | None:
    """Pytest's exit code in a tree; None if the tests exceed the limit in time.

    The tests run in a fork of this process, which has already imported the large libraries.
    """
    child = os.fork()
    if child == 0:
        _run_tests(tree, tests)
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _run_tests(tree: Path, tests: str) -> None:
    """The child: run pytest in the tree, with its package, and end."""
    import pytest

    os.setpgid(0, 0)
    os.chdir(tree)
    site = str(tree / "site")
    sys.path.insert(0, site)
    os.environ["PYTHONPATH"] = site  # for the processes that tests start
    log = os.open(tree / LOG, os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    options = [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "gpu" if GPU else "not gpu and not browser",
    ]
    code = 3
    try:
        code = int(pytest.main([*options, *tests.split()]))
    finally:
        os._exit(code)


def unmutated_failure(mutations: Sequence[Mutation]) -> str | None:
    """Why the tests of the mutations prove nothing: they fail without any; None if all pass."""
    judged = [each for each in mutations if each.gpu == GPU and not each.equivalent]
    tests = dict.fromkeys(word for each in judged for word in each.tests.split())
    if not tests:
        return None
    with private_copy(None) as tree:
        code = exit_code(tree, " ".join(tests), limit_s=len(mutations) * LIMIT_S)
        return None if code == 0 else (tree / LOG).read_text()


def judge(mutation: Mutation) -> tuple[Result, str]:
    """The result for a mutation, and a remark."""
    try:
        if mutation.equivalent:
            mutated(mutation)
            return "equivalent", mutation.equivalent
        if mutation.gpu != GPU:
            mutated(mutation)
            return "not run", "a GPU must judge it: ONLY=--gpu"
        with private_copy(mutation) as tree:
            code = exit_code(tree, mutation.tests)
    except UnplantableError as error:
        return "error", str(error)
    if code in (0, FAILED, None):
        return ("survived" if code == 0 else "caught"), mutation.tests
    return "error", f"pytest ends with {code}: {mutation.tests}"


def import_libraries() -> None:
    """Import the large libraries once, before the tests are forked; none of them is mutated."""
    import numba.cuda
    import pandas
    import pydantic
    import pytest
    import scipy.stats
    import torch
    import typer.testing

    assert all((numba.cuda, pandas, pydantic, pytest, scipy.stats, torch, typer.testing))


def main(words: Sequence[str]) -> int:
    """Judge the mutations whose file or idea contains a word; print the score."""
    words = [word for word in words if word != "--gpu"]
    picked = [
        each
        for each in read_table()
        if (each.gpu or not GPU)
        and (not words or any(word in f"{each.file} {each.idea}" for word in words))
    ]
    import_libraries()
    if failure := unmutated_failure(picked):
        print(f"{failure}\nThe tests fail without any mutation.")
        return 1
    results: Counter[Result] = Counter()
    for number, mutation in enumerate(picked, 1):
        start = time.monotonic()
        result, remark = judge(mutation)
        results[result] += 1
        seconds = time.monotonic() - start
        line = f"{number:3} {result:10} {seconds:4.0f} s  {mutation.file}: {mutation.idea}"
        print(line if result == "caught" else f"{line}\n    {remark}", flush=True)
    judged = results["caught"] + results["survived"]
    print(
        f"{results['caught']} of {judged} mutations caught"
        f" ({results['caught'] / max(judged, 1):.0%}); {results['survived']} survived,"
        f" {results['equivalent']} equivalent, {results['not run']} not run here,"
        f" {results['error']} could not be judged."
    )
    return 1 if results["survived"] or results["error"] or not judged else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
