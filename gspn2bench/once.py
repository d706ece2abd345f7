"""One call of each of some rungs on the GPU, for a profiler to look at.

Each call lies in the NVTX range ``measure`` and, inside it, ``trial 0``, ``trial 1`` and so on. A
program: ``program`` gives its command line.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import gspn2bench
from gspn2bench import backend
from gspn2bench.scenario import Case

TRIAL: Final = "trial"
"""Begins the name of the range around a call; the number of its rung follows."""


def program(case: Case, rungs: Sequence[str], seed: int) -> list[str]:
    """The command line that makes one call of each rung.

    Args:
        case: to run.
        rungs: ids, or paths that end in .py.
        seed: of the inputs.
    """
    # A bare checkout adds to the package's path: the new process finds kernels/ where we do.
    root = str(Path(gspn2bench.__file__).parents[1])
    code = (
        f"import sys; sys.path.insert(0, {root!r}); import gspn2bench; "
        f"gspn2bench.__path__ = {list(gspn2bench.__path__)!r}; "
        "from gspn2bench.once import run; run(sys.argv[1])"
    )
    job = json.dumps({"case": asdict(case), "rungs": list(rungs), "seed": seed})
    return [sys.executable, "-P", "-c", code, job]


def run(job: str) -> None:
    """Make each call once to compile it, then once in its range."""
    fields: dict[str, Any] = json.loads(job)
    backend.activate("cuda")
    for number, rung in enumerate(fields["rungs"]):
        _call(Case(**fields["case"]), rung, fields["seed"], f"{TRIAL} {number}")


def _call(case: Case, rung: str, seed: int, name: str) -> None:
    import torch

    from gspn2bench import rungs
    from gspn2bench.ranges import annotate
    from gspn2bench.workload import Workload

    work = Workload.of(case, rungs.find(rung))
    call = work.bind(work.operands("cuda", seed))
    call()
    torch.cuda.synchronize()
    with annotate("measure", name):
        call()
        torch.cuda.synchronize()
