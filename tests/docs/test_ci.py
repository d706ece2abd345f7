"""The workflow of docs/ci.md: its steps are run, on recorded runs with a planted regression."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "ci.md"
RUN = "fig3-20261123T171409Z-ff8f2e"
MEASURED = {"weights": "channel", "timing": "graph"}
SLOWER = {"rung": "r07", "phase": "forward"}
TIMES = ("latency_ms", "latency_ms_low", "latency_ms_high")


def step(name: str) -> str:
    """The commands of a step of the workflow."""
    text = re.search(
        rf"- name: {name}\n(?:.*\n)*?        run: \|\n((?:          .*\n|\n)+)", page()
    )
    assert text, name
    return textwrap.dedent(text[1])


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def recorded(folder: Path, name: str, factor: float = 1, rows: int | None = None) -> Path:
    """The rows of the recorded run that the workflow measures, one of them slower."""
    target = folder / name
    target.mkdir()
    record = json.loads((ROOT / "results" / RUN / "run.json").read_text())
    (target / "run.json").write_text(json.dumps(record | {"run_id": name}))
    lines = (ROOT / "results" / RUN / "rows.jsonl").read_text().splitlines()
    kept = [row for row in map(json.loads, lines) if row["rung"] in ("r05", "r07")]
    kept = [row for row in kept if MEASURED.items() <= row.items()]
    for row in kept:
        if SLOWER.items() <= row.items():
            row.update({key: row[key] * factor for key in TIMES})
            row["samples_ms"] = [factor * sample for sample in row["samples_ms"]]
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in kept[:rows])
    (target / "rows.jsonl").write_text(text)
    return target


@pytest.fixture
def job(tmp_path: Path):
    """Run the steps that measure and compare, on runs that were recorded before."""

    def run(base: Path, head: Path) -> subprocess.CompletedProcess[str]:
        program = shutil.which("env")
        for side, measured in (("base", base), ("head", head)):
            script = tmp_path / side / ".venv" / "bin" / "gspn2bench"
            script.parent.mkdir(parents=True)
            script.write_text(
                f"#!/bin/sh\nif [ $1 = sweep ]; then echo {measured}; exit; fi\n"
                f'exec {program} {sys.executable} -P -m gspn2bench "$@"\n'
            )
            script.chmod(0o755)
        (tmp_path / "gh").write_text('#!/bin/sh\nprintf "%s\\n" "$*" > gh.log\n')
        (tmp_path / "gh").chmod(0o755)
        commands = step("Measure both sides") + step("Compare and comment")
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            "GITHUB_REPOSITORY": "someone/kernels",
            "PULL_REQUEST": "7",
        }
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", commands],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_planted_regression_fails_the_job_with_the_comment_of_the_page(tmp_path, job):
    done = job(recorded(tmp_path, "base-run"), recorded(tmp_path, "new-run", 1.06))
    assert done.returncode == 1, done.stderr
    comment = (tmp_path / "comment.md").read_text()
    shown = re.search(r"````markdown\n(.*?)````", page(), re.DOTALL)
    assert shown
    assert comment == shown[1]
    assert (tmp_path / "summary.md").read_text() == comment
    assert (tmp_path / "gh.log").read_text() == (
        "pr comment 7 --repo someone/kernels --body-file comment.md --edit-last --create-if-none\n"
    )


@pytest.mark.parametrize(
    ("factor", "rows", "code", "headline"),
    [
        (1.0, None, 0, "### No regression"),
        (1.0, 1, 3, "### Incomplete: most rows of BASE are missing in NEW"),
    ],
)
def test_other_jobs_end_with_the_code_of_compare(tmp_path, job, factor, rows, code, headline):
    done = job(recorded(tmp_path, "base-run"), recorded(tmp_path, "new-run", factor, rows))
    assert done.returncode == code, done.stderr
    assert headline in (tmp_path / "comment.md").read_text()


def test_runs_that_cannot_be_compared_fail_the_job_without_a_comment(tmp_path, job):
    base, new = recorded(tmp_path, "base-run"), recorded(tmp_path, "new-run")
    record = json.loads((new / "run.json").read_text())
    record["environment"]["gpu"]["name"] = "a different GPU"
    (new / "run.json").write_text(json.dumps(record))
    done = job(base, new)
    assert done.returncode == 2
    assert "the GPU of BASE is NVIDIA H200, that of NEW a different GPU" in done.stderr
    assert not (tmp_path / "gh.log").exists()
