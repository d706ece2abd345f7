"""The program that ncu profiles, on a fake GPU and without a GPU."""

import faulthandler
import subprocess
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gspn2bench import nvtx_ranges, registry
from gspn2bench.cases.scenario import Case
from gspn2bench.kernels.contract import Call, Operands
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.problem import ScanProblem
from gspn2bench.system import backend
from gspn2bench.traffic import ncu_target

from ..helpers.pretended_gpu import RUNG, bind, pretended_gpu


@pytest.mark.skipif(not SIMULATED, reason="a GPU can run it")
def test_the_profiled_program_finds_the_package_and_reports_the_missing_gpu(tmp_path: Path) -> None:
    program = ncu_target.program([(Case(1, 1, 3, 4), "r07")], 0)
    process = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode != 0
    assert (
        process.stderr.strip().splitlines()[-1].startswith("gspn2bench.errors.UsageError: --device")
    )


@pytest.mark.usefixtures(pretended_gpu.__name__)
def test_a_trial_is_freed_before_the_next_and_each_has_the_full_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[str] = []
    outputs: list[weakref.ref[torch.Tensor]] = []

    def checking(problem: ScanProblem, operands: Operands) -> Call:
        assert all(output() is None for output in outputs)
        outputs.append(weakref.ref(operands.h))
        return bind(problem, operands)

    @contextmanager
    def annotate(*words: str) -> Iterator[None]:
        events.append(" > ".join(words))
        yield

    def limit(seconds: float, **options: bool) -> None:
        assert options == {"exit": True}
        events.append(f"{seconds:g} s")

    monkeypatch.setattr(backend, "activate", lambda device: None)
    monkeypatch.setattr(registry, "find", lambda reference: replace(RUNG, forward=checking))
    monkeypatch.setattr(nvtx_ranges, "annotate", annotate)
    monkeypatch.setattr(faulthandler, "dump_traceback_later", limit)
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: events.append("end"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: events.append("free"))
    ncu_target.run(
        ncu_target.program([(Case(1, 2, 3, 4), "mine"), (Case(2, 1, 5, 3), "mine")], 0)[-1]
    )
    first = ["600 s", "free", "measure > trial 0"]
    assert events == [*first, "600 s", "free", "measure > trial 1", "end"]
    assert len(outputs) == 2
