"""Every kernel compiles for a GPU, where there is none: types are right, registers suffice.

The simulator runs Python: a type that Numba can't infer, a float64 that crept in through mixed
signs, or a ring that fell out of registers into local memory would be seen on a GPU alone.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from gspn2bench.kernels.ladder import LADDER

PROGRAM = Path(__file__).resolve().parents[1] / "helpers" / "compile_kernels.py"
WHEELS = Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin/ptxas")
MISSING = not any(WHEELS) and shutil.which("ptxas") is None


@pytest.mark.skipif(
    MISSING and not os.environ.get("CI"), reason="needs ptxas: the extra compile brings it"
)
def test_every_kernel_compiles_and_stays_in_registers() -> None:
    done = subprocess.run(
        [sys.executable, "-P", str(PROGRAM)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "0"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    assert {kernel["rung"] for kernel in kernels} == {*LADDER, "expand"}
    assert {"forward", "backward"} <= {kernel["case"].split()[-1] for kernel in kernels}
    assert any("logits" in kernel["case"] for kernel in kernels)
    for kernel in kernels:
        assert not kernel["double"], f"float64 arithmetic: {kernel}"
        assert kernel["stack"] == kernel["spills"] == 0, f"local memory: {kernel}"
        assert kernel["registers"] <= kernel["limit"], f"too many registers to launch: {kernel}"
        given = ["u64"] * kernel["words"]
        assert kernel["parameters"] == given, f"not laid out as a launch gives them: {kernel}"
