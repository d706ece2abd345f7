"""One call of each of some trials on the GPU, for a profiler to look at.

Each call lies in the NVTX range ``measure`` and, inside it, ``trial 0``, ``trial 1`` and so on. A
program: ``program`` gives its command line. It fails as a whole when one trial does, or hangs.
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
"""Begins the name of the range around a call; the number of its trial follows."""
Trial = tuple[Case, str]
"""A case, and the reference of a rung (``registry.find``) that is to run it."""


def program(trials: Sequence[Trial], seed: int) -> list[str]:
    """The command line that makes one call of each trial.

    Args:
        trials: in order.
        seed: of the inputs.
    """
    # A bare checkout adds to the package's path: the new process finds kernels/ where we do.
    root = str(Path(gspn2bench.__file__).parents[1])
    code = (
        f"import sys; sys.path.insert(0, {root!r}); import gspn2bench; "
        f"gspn2bench.__path__ = {list(gspn2bench.__path__)!r}; "
        "from gspn2bench.traffic.ncu_target import run; run(sys.argv[1])"
    )
    listed = [(asdict(case), reference) for case, reference in trials]
    job = json.dumps({"trials": listed, "seed": seed})
    return [sys.executable, "-P", "-c", code, job]


def run(job: str) -> None:
    """Make each call once to compile it, then once in its range, and free what it had."""
    fields: dict[str, Any] = json.loads(job)
    backend.activate("cuda")
    for number, (case, reference) in enumerate(fields["trials"]):
        faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
        _call(Case(**case), reference, fields["seed"], f"{TRIAL} {number}")
    faulthandler.cancel_dump_traceback_later()


def _call(case: Case, reference: str, seed: int, name: str) -> None:
    import torch

    from gspn2bench import registry
    from gspn2bench.nvtx_ranges import annotate
    from gspn2bench.workload import workload_of

    torch.cuda.empty_cache()  # of the trial before
    work = workload_of(case, registry.find(reference))
    call = work.bind(work.operands("cuda", seed))
    call()
    torch.cuda.synchronize()
    with annotate("measure", name):
        call()
        torch.cuda.synchronize()
