"""``--resume``, as ``sweep`` and ``traffic`` share it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gspn2bench.commands.output import echo
from gspn2bench.errors import UsageError

if TYPE_CHECKING:
    from gspn2bench.records.store import Run, RunWriter


def check_alone(scenario: str | None, rung: str | None, axis: Sequence[str] | None) -> None:
    """Refuse cases beside ``--resume``, which takes them from the run.

    Raises:
        UsageError: the scenario, --rung or --axis is given.
    """
    if scenario is not None or rung is not None or axis:
        raise UsageError(
            "--resume: takes its cases from the run; leave out the scenario, --rung and --axis"
        )


def required(scenario: str | None) -> str:
    """The scenario, which a command without ``--resume`` needs.

    Raises:
        UsageError: it is missing.
    """
    if scenario is None:
        raise UsageError("scenario: missing; `gspn2bench list scenarios` shows the names")
    return scenario


def on_the_same_gpu(run: "Run") -> bool:
    """Whether this machine's GPU is named like that of the run; True where both have none."""
    from gspn2bench.system.environment import collect

    return run.record.environment.gpu_name == collect().gpu_name


def wrong_machine(run: "Run") -> UsageError:
    """The error for a run that can't be resumed here."""
    gpu = run.record.environment.gpu_name or "a machine without a GPU"
    place = f"the simulator of {gpu}" if run.record.simulated else gpu
    return UsageError(f"--resume: {run.path.name} was begun on {place}; resume it there")


@contextmanager
def reopened(run: "Run") -> "Iterator[RunWriter]":
    """A writer that adds rows to a run; a torn last line is set aside first.

    Raises:
        UsageError: another process is writing the run, or its folder can't be written.
    """
    from gspn2bench.records import store

    with store.RunWriter(run.path, run.record, resume=True) as writer:
        if aside := store.set_torn_aside(run):
            echo(f"warning: the last line was torn; it is kept in {aside}", err=True)
        yield writer
