"""The program that ncu profiles: one call per trial on the GPU.

Each call runs in the NVTX range ``measure`` and, inside it, in ``trial 0``, ``trial 1`` and so on.
``program`` returns the command line. If one trial fails or hangs, the whole program fails.
"""

import faulthandler
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import gspn2bench
from gspn2bench.cases.scenario import Case
from gspn2bench.system import backend
from gspn2bench.traffic.counters import LIMIT_SECONDS

TRIAL: Final = "trial"
"""Prefix of the name of the range around a call; the number of the trial follows."""
Trial = tuple[Case, str]
"""A case, and the spec (``registry.find``) of the rung that runs it."""


def program(trials: Sequence[Trial], seed: int) -> list[str]:
    """The command line of a process that makes one call per trial.

    Args:
        trials: in order.
        seed: for the random inputs.
    """
    # In a bare checkout, kernels/ is outside the package. The new process gets the same paths.
    root = str(Path(gspn2bench.__file__).parents[1])
    code = (
        f"import sys; sys.path.insert(0, {root!r}); import gspn2bench; "
        f"gspn2bench.__path__ = {list(gspn2bench.__path__)!r}; "
        "from gspn2bench.traffic.ncu_target import run; run(sys.argv[1])"
    )
    fields = [(asdict(case), spec) for case, spec in trials]
    job = json.dumps({"trials": fields, "seed": seed})
    return [sys.executable, "-P", "-c", code, job]


def run(job: str) -> None:
    """Make each call once to compile it and once in its range, then free its memory.

    Args:
        job: JSON, the last argument of ``program``.
    """
    fields: dict[str, Any] = json.loads(job)
    backend.activate("cuda")
    for number, (case, spec) in enumerate(fields["trials"]):
        faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
        _call(Case(**case), spec, fields["seed"], f"{TRIAL} {number}")
    faulthandler.cancel_dump_traceback_later()


def _call(case: Case, spec: str, seed: int, name: str) -> None:
    import torch

    from gspn2bench import registry
    from gspn2bench.measure.threads import backward_here
    from gspn2bench.nvtx_ranges import annotate
    from gspn2bench.workload import workload_of

    torch.cuda.empty_cache()  # return the memory of the previous trial
    work = workload_of(case, registry.find(spec))
    call = work.bind(work.operands("cuda", seed))
    call()
    torch.cuda.synchronize()
    with annotate("measure", name), backward_here():
        call()
        torch.cuda.synchronize()
