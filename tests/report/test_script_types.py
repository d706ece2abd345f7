"""The types of the report's scripts, checked by tsc together with the data of a page."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gspn2bench.records.store import Run, add_profile, read_run
from gspn2bench.report import render

from ..helpers.report_fixtures import profile_of, real_run, save, simulated_run, slower, sweep_run

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tsconfig.json"
TSC = ROOT / "node_modules" / ".bin" / "tsc"
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)

Check = Callable[[], list[str]]


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A copy of the scripts."""
    (folder,) = re.findall(r'"include": \["(.+)"\]', CONFIG.read_text(encoding="utf-8"))
    return Path(shutil.copytree(ROOT / folder, tmp_path / "scripts"))


@pytest.fixture
def check(scripts: Path) -> Check:
    """Run tsc on the copy of the scripts; returns its errors. Skips where npm is missing."""
    if shutil.which("npm") is None:
        missing = "npm is not installed"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    assert TSC.exists(), "the type checker is not installed: make lint-js"
    config = scripts.parent / "tsconfig.json"
    config.write_text(json.dumps({"extends": str(CONFIG), "include": [scripts.name]}))

    def errors() -> list[str]:
        result = subprocess.run(
            [TSC, "--project", config], capture_output=True, text=True, check=False
        )
        lines = result.stdout.splitlines()
        assert bool(lines) == bool(result.returncode), result.stderr
        return lines

    return errors


def test_every_script_asks_for_the_check(scripts: Path) -> None:
    first_lines = [path.read_text(encoding="utf-8").split("\n")[0] for path in scripts.glob("*.js")]
    assert set(first_lines) == {"// @ts-check"}


def test_faults_are_found(scripts: Path, check: Check) -> None:
    faults = {
        "roofline.js": ("row.gbps", "row.gpbs"),
        "views.js": ("/** @param {Row} row */\n    const title", "const title"),
        "theme.js": ("automargin: true", "automragin: true"),
        # a function of a different script
        "page.js": ("formatting.plural(view.rows.length,", "formatting.plural(view.rows,"),
    }
    for name, (right, wrong) in faults.items():
        text = (scripts / name).read_text(encoding="utf-8")
        assert right in text
        (scripts / name).write_text(text.replace(right, wrong, 1), encoding="utf-8")
    errors = "\n".join(check())
    assert set(re.findall(r"scripts/(\w+\.js)\(\d+,\d+\): error TS", errors)) == set(faults)
    assert "'gpbs' does not exist" in errors


def page_data(runs: list[Run]) -> dict[str, Any]:
    (data,) = DATA.findall(render(runs))
    parsed: dict[str, Any] = json.loads(data)
    return parsed


def test_the_data_of_a_page_has_these_types(tmp_path: Path, scripts: Path, check: Check) -> None:
    base, new = sweep_run(), slower(sweep_run(), "r07", 1.08)
    # a row without a latency in the new run, and a run with a profile
    path = save(Run(new.path, new.record, new.rows[2:]), tmp_path)
    add_profile(path, profile_of(base))
    page = page_data([real_run()])
    right = {
        "measured": page,
        "simulated": page_data([simulated_run()]),
        "compared": page_data([base, read_run(path)]),
    }
    wrong = {
        "missing": {key: value for key, value in page.items() if key != "samples"},
        "unknown": page | {"columns": page["columns"] | {"unknown_column": {"all": 1}}},
        "empty": page | {"columns": page["columns"] | {"phase": {"all": None}}},
    }
    for name, data in (right | wrong).items():
        script = f"/** @type {{Payload}} */\nconst {name} = {json.dumps(data)};\n"
        (scripts / f"{name}.js").write_text(script, encoding="utf-8")
    errors = "\n".join(check())
    assert set(re.findall(r"scripts/(\w+)\.js\(\d+,\d+\): error TS", errors)) == set(wrong)
