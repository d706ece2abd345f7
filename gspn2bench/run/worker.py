"""Jobs in a process of their own: what a kernel breaks, it breaks there.

The parent never makes a CUDA context. A worker that dies, hangs or loses the GPU is replaced; the
rung whose turn it was is told apart from the others of its job, and they go on.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, Protocol, Self

import torch

from gspn2bench.kernels import jit
from gspn2bench.measure import ceilings
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.nvtx_ranges import annotate
from gspn2bench.records.schema import Row, Status
from gspn2bench.run.interleave import RungStarted
from gspn2bench.run.preflight import first_line, gpu_is_healthy
from gspn2bench.system import executables

START_SECONDS: Final = 120.0
"""Longest time for a worker to import torch and numba and to find the GPU."""
FLUSH_SECONDS: Final = 60.0
"""Longest time for a profiled worker to hand over what its profiler has buffered."""


class WorkerDiedError(Exception):
    """The worker's process ended; the message says how."""


class TimeLimitError(Exception):
    """The worker was at it for longer than it may, and was killed."""


class GpuLostError(Exception):
    """No worker can reach the GPU; the message is the driver's."""


Watch = Callable[[str], None]
"""Told the id of each rung whose turn it is."""


def unwatched(_rung: str) -> None:
    """Tell nobody."""


class Job(Protocol):
    """Work for a worker, which travels to it by pickle."""

    def run(self) -> Iterator[RungStarted | Row]:
        """In the worker: the rows, each as soon as it is known, and whose turn it is."""

    def remaining_after(self, row: Row) -> "Job | None":
        """What is left when this row is done; None when nothing is."""

    def rows_for_failure(self, rung: str | None, status: Status, reason: str) -> list[Row]:
        """The rows that are left of one rung, by its id, or of all, without a number."""


@dataclass(frozen=True)
class _Ready:
    ceilings: Ceilings | None = None
    lost: str | None = None


@dataclass(frozen=True)
class _Done:
    healthy: bool


class Worker:
    """One process that does jobs, one at a time.

    Args:
        scenario: names the NVTX range around all of its jobs.
        known: ceilings measured before, or None to measure them now.

    Raises:
        GpuLostError: the worker can't reach the GPU.
        WorkerDiedError: it ended before it was ready.
        TimeLimitError: it did not get ready in time.
    """

    def __init__(self, scenario: str, known: Ceilings | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, scenario, known), daemon=True)
        self._process.start()
        theirs.close()
        ready = self._receive(time.monotonic() + START_SECONDS, START_SECONDS)
        assert isinstance(ready, _Ready)
        if ready.lost is not None or ready.ceilings is None:
            self.stop()
            raise GpuLostError(ready.lost)
        self.ceilings = ready.ceilings
        self.usable = True
        self.turn: str | None = None

    def run(self, job: Job, limit_s: float, watch: Watch = unwatched) -> Iterator[Row]:
        """The job's rows, each as soon as the worker has it.

        ``turn`` is the rung that is at it, by its id; None before the first. ``watch`` is told.

        Raises:
            WorkerDiedError: the process ended; rows given before it are good.
            TimeLimitError: the turns of one rung took longer than ``limit_s`` seconds together.
        """
        spent: dict[str | None, float] = defaultdict(float)
        self.turn = None
        self._pipe.send(job)
        while True:
            begun = time.monotonic()
            answer = self._receive(begun + limit_s - spent[self.turn], limit_s)
            spent[self.turn] += time.monotonic() - begun
            if isinstance(answer, _Done):
                if not answer.healthy:
                    self.stop()
                return
            if isinstance(answer, RungStarted):
                self.turn = answer.rung
                watch(answer.rung)
                continue
            assert isinstance(answer, Row)
            yield answer

    def stop(self) -> None:
        """End the process, whatever it is doing; a profiler may finish with it first."""
        self.usable = False
        self._pipe.close()
        if os.environ.get(executables.PROFILED):
            self._process.join(FLUSH_SECONDS)
        self._process.kill()
        self._process.join()

    def _receive(self, end: float, limit_s: float) -> object:
        try:
            if not self._pipe.poll(max(0.0, end - time.monotonic())):
                self.stop()
                raise TimeLimitError(f"time limit: over {limit_s:g} s")
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode or 0
            self.stop()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise WorkerDiedError(f"the worker process died: {how}") from None


class WorkerSupervisor:
    """A worker, and the next one when it has died; a context manager that ends it.

    Args:
        scenario: names the NVTX range around all jobs.
        known: ceilings measured before, or None to measure them now.

    Attributes:
        ceilings: known or measured; empty where the GPU is lost.
    """

    def __init__(self, scenario: str, known: Ceilings | None = None) -> None:
        self._scenario = scenario
        self._worker: Worker | None = None
        self._lost: str | None = None
        self.ceilings = known or Ceilings()
        if known is None:
            try:
                self._worker = Worker(scenario)
            except (GpuLostError, WorkerDiedError, TimeLimitError) as error:
                self._lost = str(error)
            else:
                self.ceilings = self._worker.ceilings

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._worker is not None:
            self._worker.stop()

    def rows(self, job: Job, limit_s: float, watch: Watch = unwatched) -> Iterator[Row]:
        """The job's rows, however it ends; ``watch`` is told whose turn it is.

        A rung that ends its worker, or is at it for longer than ``limit_s`` seconds, has rows that
        say so; a new worker does what is left.
        """
        left: Job | None = job
        while left is not None:
            given = left
            turn: str | None = None
            try:
                worker = self._usable()
                try:
                    for row in worker.run(given, limit_s, watch):
                        left = left.remaining_after(row) if left else None
                        yield row
                finally:
                    turn = worker.turn
            except WorkerDiedError as error:
                ending: tuple[Status, str] = ("failed", str(error))
            except TimeLimitError as error:
                ending = ("timeout", str(error))
            except GpuLostError as error:
                self._lost = str(error)
                ending, turn = ("not_run", f"the GPU is lost: {error}"), None
            else:
                if left is not given:
                    continue  # done, or interrupted by a rung that has its row
                ending = ("failed", "the worker gave no row")
            for row in left.rows_for_failure(turn, *ending) if left else ():
                left = left.remaining_after(row) if left else None
                yield row

    def _usable(self) -> Worker:
        if self._lost is not None:
            raise GpuLostError(self._lost)
        if self._worker is None or not self._worker.usable:
            self._worker = Worker(self._scenario, self.ceilings)
        return self._worker


def _serve(pipe: Connection, scenario: str, known: Ceilings | None) -> None:
    """The worker's side: get ready, then do jobs until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _end_with_parent()
    try:
        if not jit.SIMULATED:
            torch.zeros(1, device="cuda")
        pipe.send(_Ready(known or ceilings.measure()))
    except Exception as error:
        pipe.send(_Ready(lost=first_line(error)))
        return
    with annotate("scenario", scenario):
        while True:
            try:
                job: Job = pipe.recv()
            except EOFError:
                return
            for each in job.run():
                pipe.send(each)
            well = gpu_is_healthy()
            pipe.send(_Done(well))
            if not well:
                return


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent is killed, even in a call that hangs."""
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
