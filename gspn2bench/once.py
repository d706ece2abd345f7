"""One call on the GPU inside the NVTX range ``measure``, for a profiler to look at.

A program: ``program`` gives its command line.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gspn2bench
from gspn2bench import backend
from gspn2bench.scenario import Case


def program(case: Case, rung: str, seed: int) -> list[str]:
    """The command line that makes one call.

    Args:
        case: to run.
        rung: an id, or a path that ends in .py.
        seed: of the inputs.
    """
    # A bare checkout adds to the package's path: the new process finds kernels/ where we do.
    root = str(Path(gspn2bench.__file__).parents[1])
    code = (
        f"import sys; sys.path.insert(0, {root!r}); import gspn2bench; "
        f"gspn2bench.__path__ = {list(gspn2bench.__path__)!r}; "
        "from gspn2bench.once import run; run(sys.argv[1])"
    )
    job = json.dumps({"case": asdict(case), "rung": rung, "seed": seed})
    return [sys.executable, "-P", "-c", code, job]


def run(job: str) -> None:
    """Make the call once to compile it, then once in the range."""
    fields: dict[str, Any] = json.loads(job)
    backend.activate("cuda")

    import torch

    from gspn2bench import rungs
    from gspn2bench.ranges import annotate
    from gspn2bench.workload import Workload

    work = Workload.of(Case(**fields["case"]), rungs.find(fields["rung"]))
    call = work.bind(work.operands("cuda", fields["seed"]))
    call()
    torch.cuda.synchronize()
    with annotate("measure"):
        call()
        torch.cuda.synchronize()
