"""Trials in a process of their own: what a kernel breaks, it breaks there.

The parent never makes a CUDA context. A worker that dies, hangs or loses the GPU is replaced, and
the sweep goes on.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

import torch

from gspn2bench import rungs, tools, trial
from gspn2bench.kernels import jit
from gspn2bench.measure import ceilings
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.ranges import annotate
from gspn2bench.scenario import Case
from gspn2bench.schema import Row

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


@dataclass(frozen=True)
class Job:
    """One rung, by its reference, on one case."""

    case: Case
    rung: str
    settings: trial.Settings
    ceilings: Ceilings


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

    def run(self, job: Job, limit_s: float) -> Iterator[Row]:
        """The job's rows, each as soon as the worker has it.

        Raises:
            WorkerDiedError: the process ended; rows given before it are good.
            TimeLimitError: the job took longer than ``limit_s`` seconds.
        """
        end = time.monotonic() + limit_s
        self._pipe.send(job)
        while True:
            answer = self._receive(end, limit_s)
            if isinstance(answer, _Done):
                if not answer.healthy:
                    self.stop()
                return
            assert isinstance(answer, Row)
            yield answer

    def stop(self) -> None:
        """End the process, whatever it is doing; a profiler may finish with it first."""
        self.usable = False
        self._pipe.close()
        if os.environ.get(tools.PROFILED):
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


def _serve(pipe: Connection, scenario: str, known: Ceilings | None) -> None:
    """The worker's side: get ready, then do jobs until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        if not jit.SIMULATED:
            torch.zeros(1, device="cuda")
        pipe.send(_Ready(known or ceilings.measure()))
    except Exception as error:
        pipe.send(_Ready(lost=trial.first_line(error)))
        return
    with annotate("scenario", scenario):
        while True:
            try:
                job: Job = pipe.recv()
            except EOFError:
                return
            rung = rungs.find(job.rung)
            with annotate("case", job.case.label, rung.id):
                for row in trial.run(job.case, rung, job.settings, job.ceilings):
                    pipe.send(row)
            healthy = _healthy()
            pipe.send(_Done(healthy))
            if not healthy:
                return


def _healthy() -> bool:
    """Whether the CUDA context still works: an illegal access breaks it for good."""
    if jit.SIMULATED:
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True
