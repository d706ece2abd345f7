"""Run jobs in a worker process so a faulty kernel cannot take down the sweep.

The parent process never makes a CUDA context. A worker that dies, hangs or breaks its CUDA context
is replaced. The failure is attributed to the rung that was running, and a new worker runs the
remaining rungs of the job.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
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
"""Longest time for a worker to import torch and numba and to reach the GPU."""
FLUSH_SECONDS: Final = 60.0
"""Longest time for a profiled worker to write the data that its profiler has buffered."""

QUIET: Final = {
    "PYTHONWARNINGS": "ignore",
    "KINETO_LOG_LEVEL": "5",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
"""Variables of a worker that keep warnings of libraries off the terminal, unless already set."""


class WorkerDiedError(Exception):
    """The worker process ended; the message has its signal or exit code."""


class TimeLimitError(Exception):
    """The worker exceeded its time limit and was killed."""


class GpuLostError(Exception):
    """A worker cannot reach the GPU; the message comes from the driver."""


RungObserver = Callable[[str], None]
"""Called with the id of a rung when that rung starts to run."""


def ignore(_rung: str) -> None:
    """The observer that does nothing."""


class Job(Protocol):
    """Work for a worker. A job is sent to the worker by pickle."""

    def run(self) -> Iterator[RungStarted | Row]:
        """In the worker: yield each row when complete, and ``RungStarted`` before a rung runs."""

    def remaining_after(self, row: Row) -> "Job | None":
        """The job without the work of a row; None if nothing remains."""

    def rows_for_failure(self, rung: str | None, status: Status, reason: str) -> list[Row]:
        """Rows without a latency for the remaining work of a rung, by id; None for all rungs."""


@dataclass(frozen=True)
class _WorkerReady:
    """Sent by the worker once; ``gpu_error`` is set if it cannot reach the GPU."""

    ceilings: Ceilings | None = None
    gpu_error: str | None = None


@dataclass(frozen=True)
class _JobDone:
    """Sent by the worker after each job, with the state of its CUDA context."""

    healthy: bool


class Worker:
    """One worker process, which runs one job at a time.

    Args:
        scenario: name of the NVTX range around all jobs.
        known: limits of the machine that were already measured; None measures them now.

    Attributes:
        ceilings: known or measured.
        usable: whether the process can take a job.
        current_rung: id of the rung that is running; None before the first rung of a job.

    Raises:
        GpuLostError: the worker cannot reach the GPU.
        WorkerDiedError: the process ended during start-up.
        TimeLimitError: start-up took longer than ``START_SECONDS``.
    """

    def __init__(self, scenario: str, known: Ceilings | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, worker_pipe = context.Pipe()
        arguments = (worker_pipe, scenario, known)
        self._process = context.Process(target=worker_main, args=arguments, daemon=True)
        with _quiet_child():
            self._process.start()
        worker_pipe.close()
        started = self._receive(time.monotonic() + START_SECONDS, START_SECONDS)
        assert isinstance(started, _WorkerReady)
        if started.gpu_error is not None or started.ceilings is None:
            self.stop()
            raise GpuLostError(started.gpu_error)
        self.ceilings = started.ceilings
        self.usable = True
        self.current_rung: str | None = None

    def run(self, job: Job, limit_s: float, observer: RungObserver = ignore) -> Iterator[Row]:
        """Run a job and yield its rows as the worker sends them.

        Args:
            job: the job.
            limit_s: longest time for one rung, all of its sample blocks together, seconds.
            observer: called when a rung starts to run.

        Raises:
            WorkerDiedError: the process ended. Rows yielded before are valid.
            TimeLimitError: a rung exceeded ``limit_s``.
        """
        spent_s: dict[str | None, float] = defaultdict(float)
        self.current_rung = None
        self._pipe.send(job)
        while True:
            start = time.monotonic()
            message = self._receive(start + limit_s - spent_s[self.current_rung], limit_s)
            spent_s[self.current_rung] += time.monotonic() - start
            if isinstance(message, _JobDone):
                if not message.healthy:
                    self.stop()
                return
            if isinstance(message, RungStarted):
                self.current_rung = message.rung
                observer(message.rung)
                continue
            assert isinstance(message, Row)
            yield message

    def stop(self) -> None:
        """End the process at once; under a profiler, first wait for it to write its data."""
        self.usable = False
        self._pipe.close()
        if os.environ.get(executables.PROFILED):
            self._process.join(FLUSH_SECONDS)
        self._process.kill()
        self._process.join()

    def _receive(self, deadline: float, limit_s: float) -> object:
        try:
            if not self._pipe.poll(max(0.0, deadline - time.monotonic())):
                self.stop()
                raise TimeLimitError(f"time limit: over {limit_s:g} s")
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            code = self._process.exitcode or 0
            self.stop()
            cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise WorkerDiedError(f"the worker process died: {cause}") from None


class WorkerSupervisor:
    """Keeps one worker running and replaces it after a failure.

    A context manager: the worker ends with the ``with`` block.

    Args:
        scenario: name of the NVTX range around all jobs.
        known: limits of the machine that were already measured; None measures them now.

    Attributes:
        ceilings: known or measured; empty if the worker failed to start.
    """

    def __init__(self, scenario: str, known: Ceilings | None = None) -> None:
        self._scenario = scenario
        self._worker: Worker | None = None
        self._gpu_error: str | None = None
        self.ceilings = known or Ceilings()
        if known is None:
            try:
                self._worker = Worker(scenario)
            except (GpuLostError, WorkerDiedError, TimeLimitError) as error:
                self._gpu_error = str(error)
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

    def run(self, job: Job, limit_s: float, observer: RungObserver = ignore) -> Iterator[Row]:
        """Run a job to its end and yield one row for each part of its work.

        If a rung ends its worker or exceeds the limit, its remaining rows record that, and a new
        worker runs the remaining rungs.

        Args:
            job: the job.
            limit_s: longest time for one rung, all of its sample blocks together, seconds.
            observer: called when a rung starts to run.
        """
        remaining: Job | None = job
        while remaining is not None:
            sent = remaining
            failed_rung: str | None = None
            try:
                worker = self._usable_worker()
                try:
                    for row in worker.run(sent, limit_s, observer):
                        remaining = remaining.remaining_after(row) if remaining else None
                        yield row
                finally:
                    failed_rung = worker.current_rung
            except WorkerDiedError as error:
                failure: tuple[Status, str] = ("failed", str(error))
            except TimeLimitError as error:
                failure = ("timeout", str(error))
            except GpuLostError as error:
                self._gpu_error = str(error)
                failure, failed_rung = ("not_run", f"the GPU is lost: {error}"), None
            else:
                if remaining is not sent:
                    continue  # all done, or stopped after a rung that broke the CUDA context
                failure = ("failed", "the worker returned no row")
            for row in remaining.rows_for_failure(failed_rung, *failure) if remaining else ():
                remaining = remaining.remaining_after(row) if remaining else None
                yield row

    def _usable_worker(self) -> Worker:
        if self._gpu_error is not None:
            raise GpuLostError(self._gpu_error)
        if self._worker is None or not self._worker.usable:
            self._worker = Worker(self._scenario, self.ceilings)
        return self._worker


@contextmanager
def _quiet_child() -> Iterator[None]:
    """Let a child that starts in the body print nothing of its own while it imports libraries.

    Ctrl-C also reaches the child, which ignores it only once ``worker_main`` runs. Until then the
    child inherits a mask that blocks the signal. Warnings of libraries would appear inside the
    progress bar. They are shown if the user sets a variable of ``QUIET`` or the option -W.
    """
    resource_tracker.ensure_running()  # it would lift the mask when it starts
    added = {
        name: value
        for name, value in QUIET.items()
        if name not in os.environ and not (name == "PYTHONWARNINGS" and sys.warnoptions)
    }
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def worker_main(pipe: Connection, scenario: str, known: Ceilings | None) -> None:
    """The main function of the worker process: serve jobs, then end without teardown.

    The process ends with ``os._exit``. The exit handlers and destructors of torch, CUPTI and numba
    do not run: everything of value has been sent, and a crash in a destructor would print an error
    below a good run. A profiler writes its data in an exit handler, so a profiled worker ends
    normally.
    """
    try:
        _serve(pipe, scenario, known)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    else:
        code = 0
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader may be gone, or the stream closed
            stream.flush()
    if os.environ.get(executables.PROFILED):
        sys.exit(code)
    os._exit(code)


def _serve(pipe: Connection, scenario: str, known: Ceilings | None) -> None:
    """Start up, then run jobs until the pipe closes or the CUDA context breaks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    if os.environ.get("PYTHONWARNINGS") == QUIET["PYTHONWARNINGS"]:
        logging.disable(logging.WARNING)
    _end_with_parent()
    try:
        if not jit.SIMULATED:
            torch.zeros(1, device="cuda")
        pipe.send(_WorkerReady(known or ceilings.measure()))
    except Exception as error:
        pipe.send(_WorkerReady(gpu_error=first_line(error)))
        return
    with annotate("scenario", scenario):
        while True:
            try:
                job: Job = pipe.recv()
            except EOFError:
                return
            for message in job.run():
                pipe.send(message)
            healthy = gpu_is_healthy()
            pipe.send(_JobDone(healthy))
            if not healthy:
                return


def _end_with_parent() -> None:
    """Make Linux kill this process when its parent dies, even during a call that hangs."""
    if sys.platform == "linux":
        set_death_signal = 1
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
