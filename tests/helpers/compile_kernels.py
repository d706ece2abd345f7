"""Compile the kernels of every rung, and of expand, for sm_90 without a GPU.

This is a separate program because the other tests run in the simulator, which infers no types. It
prints the assembler's statistics, a JSON object per kernel: name, threads per block, registers,
stack (bytes of local memory per thread), spills (bytes), double (whether it has float64
arithmetic), limit (registers per thread that the launch allows), parameters (their types), and
words (8 bytes each) passed to a launch.
"""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba.cuda.dispatcher
import numpy as np
import torch
from numba import cuda

from gspn2bench.kernels import launch_limits, prebound_launch, r09_quad
from gspn2bench.kernels.contract import Rung
from gspn2bench.kernels.expand import MAX_PLANES, prepare_expand
from gspn2bench.kernels.four import FourOperands, FourProblem
from gspn2bench.kernels.jit import ArrayType
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.kernels.r07_gspn2 import bind_one_launch
from gspn2bench.kernels.r07_gspn2.section import exchanges
from gspn2bench.problem import DTYPES, PHASES, WEIGHTS, ScanProblem
from gspn2bench.workload import inputs

CAPABILITY = (9, 0)
STEPS = 128  # enough for the longest ring of operands
LINES = (1024, 256, 1023, 2048)
LONG = {"r07": (1025,)}  # an odd line longer than a block: 17 warps, two columns a thread
Launch = tuple[Any, int, tuple[Any, ...], int]


def record_launches() -> list[Launch]:
    """Replace the GPU: arguments become their types, and launches are recorded."""
    device = SimpleNamespace(compute_capability=CAPABILITY)
    numba.cuda.dispatcher.get_current_device = lambda: device
    seen: list[Launch] = []

    def record(
        compiled: Any,
        _grid: int,
        block: int | tuple[int, int],
        arguments: tuple[Any, ...],
        _shared_bytes: int,
        _cluster: int = 1,
    ) -> Callable[[], None]:
        words = sum(len(prebound_launch.words_of(argument)) for argument in arguments)
        types = prebound_launch.signature(prebound_launch.dtypes_of(arguments))
        launched = compiled, int(np.prod(block)), types, words
        return lambda: seen.append(launched)

    def record_prepared(
        compiled: Any,
        _grid: int,
        block: int,
        arrays: Sequence[ArrayType],
        numbers: Sequence[int],
        _shared_bytes: int,
        _cluster: int,
    ) -> Callable[..., None]:
        dtypes = (*(array.word for array in arrays), *(None for _ in numbers))
        types = prebound_launch.signature(dtypes)
        launched = compiled, block, types, 7 * len(arrays) + len(numbers)
        return lambda *_: seen.append(launched)

    prebound_launch.PreboundLaunch = record  # type: ignore[assignment,misc]
    prebound_launch.PreparedLaunch = record_prepared  # type: ignore[assignment,misc]
    return seen


def problems(rung: Rung) -> Iterator[ScanProblem]:
    """Small problems that together need every kernel of a rung."""
    for dtype, weights, phase, direction in product(DTYPES, WEIGHTS, PHASES, ("down", "right")):
        for line in (*LINES, *LONG.get(rung.id, ())) if dtype == "float32" else LINES[:1]:
            size = (STEPS, line) if direction == "down" else (line, STEPS)
            for logits in (False, True) if phase == "forward" else (False,):
                problem = ScanProblem(1, 2, *size, dtype, direction, None, weights, phase, logits)
                if rung.skip_reason(problem) is None:
                    yield problem


def problems_of(rung: Rung) -> Iterator[ScanProblem]:
    """Problems that need the kernels of a rung; those of r09 are in ``quad_problems``."""
    if rung.id == "r09":
        return iter(())
    return strip_problems() if rung.id == "r08" else problems(rung)


def quad_problems() -> Iterator[FourProblem]:
    """The scans of GSPN-2 modules on small maps, by r09; other sizes compile too slowly."""
    for dtype, phase in product(DTYPES, PHASES):
        scan = ScanProblem(1, 4, 64, 64, dtype, weights="shared", phase=phase)
        bias = phase == "forward"
        yield FourProblem(scan, logits=True, with_u=True, with_h=not bias, with_bias=bias)
    yield FourProblem(ScanProblem(1, 2, 16, 63))
    yield FourProblem(ScanProblem(1, 2, 16, 63, phase="backward"))


def cluster_problems() -> Iterator[ScanProblem]:
    """Problems that r07 can run as the largest clusters; without a GPU its rule takes none."""
    for dtype in DTYPES:
        for line in (1024, 1023) if dtype == "float32" else LINES[:1]:
            size = (1, 8, STEPS, line)
            problem = ScanProblem(*size, dtype, weights="shared", phase="backward")
            if exchanges(problem):
                yield problem


def strip_problems() -> Iterator[ScanProblem]:
    """Problems of r08, each in a different shape; every kernel compiles for seconds."""
    yield ScanProblem(1, 1, STEPS, 1024, logits=True)  # a cluster of 16 blocks
    yield ScanProblem(1, 64, STEPS, 1024, phase="backward")  # a cluster of 2
    # one block with all of its warps: the fewest registers per thread
    yield ScanProblem(1, 140, 16, 1023, "float16")
    yield ScanProblem(1, 140, 16, 1024, logits=True)
    yield ScanProblem(1, 140, 16, 1024, phase="backward")
    yield ScanProblem(1, 140, 16, 1024, "bfloat16", "up", None, "shared", "backward")


def expand_calls() -> Iterator[tuple[str, Callable[[], None]]]:
    """Projections of planes in words of 8 bytes with a bias, and of one value without."""
    for dtype, (inner, channels) in product(DTYPES, ((8, 768), (MAX_PLANES, 767))):
        case = f"{inner} planes, {channels} channels {dtype}"
        yield case, prepare_expand(inner, 64, channels, dtype, has_bias=channels == 768)


def assembled(compiled: Any, threads: int, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """The assembler's statistics of one kernel."""
    ptx, _ = cuda.compile_ptx(compiled.py_func, arguments, cc=CAPABILITY)
    entry = ptx.partition(".entry")[2]
    limit = compiled.targetoptions.get("max_registers") or 255
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx)
        command = [ptxas(), "-arch=sm_90", "-v", f"-maxrregcount={limit}", source, "-o", target]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stderr

    def number(pattern: str) -> int:
        return max(map(int, re.findall(pattern, text)), default=0)

    return {
        "name": compiled.py_func.__name__,
        "threads": threads,
        "registers": number(r"Used (\d+) registers"),
        "limit": launch_limits.registers_per_thread(threads),
        "stack": number(r"(\d+) bytes stack frame"),
        "spills": number(r"(\d+) bytes spill"),
        "double": bool(re.search(r"\.f64\b", entry.replace(".reg .f64", ""))),
        "parameters": re.findall(r"^\s*\.param \.(\w+)", entry, re.MULTILINE),
    }


def ptxas() -> str:
    """Path of the assembler, from NVIDIA's compiler wheel or an installed toolkit."""
    wheels = Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin/ptxas")
    return str(next(wheels, None) or shutil.which("ptxas"))


def main() -> None:
    """Compile each kernel once per configuration."""
    seen = record_launches()
    done: set[tuple[int, tuple[str, ...]]] = set()

    def compile_launched(rung: str, case: str) -> None:
        for compiled, threads, arguments, words in seen:
            key = (id(compiled), tuple(map(str, arguments)))
            if key not in done:
                done.add(key)
                result = {"rung": rung, "case": case, "words": words}
                print(json.dumps(result | assembled(compiled, threads, arguments)), flush=True)
        seen.clear()

    for rung in LADDER.values():
        for problem in problems_of(rung):
            rung.bind(problem, inputs.make(problem, "cpu", 0))()
            weights = f"{problem.weights} logits" if problem.logits else problem.weights
            case = f"{problem.width} {problem.dtype} {weights} {problem.phase}"
            compile_launched(rung.id, case)
    for four in quad_problems():
        tensor = torch.empty(1)
        r09_quad.prepare(four)(FourOperands(*[tensor] * len(fields(FourOperands))))
        scan = four.scan
        logits = "logits and u" if four.logits else "weights"
        compile_launched("r09", f"{scan.width} {scan.dtype} {scan.weights} {logits} {scan.phase}")
    for problem in cluster_problems():
        bind_one_launch(problem, inputs.make(problem, "cpu", 0))()
        compile_launched("r07", f"{problem.width} {problem.dtype} shared clusters backward")
    for case, call in expand_calls():
        call()
        compile_launched("expand", case)


if __name__ == "__main__":
    sys.exit(main())
