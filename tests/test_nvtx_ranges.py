import os
import subprocess
import sys
from types import TracebackType

import pytest

from gspn2bench import nvtx_ranges


class Recorder:
    """Stands in for nvtx.annotate and keeps what was pushed and popped."""

    log: list[str] = []  # noqa: RUF012

    def __init__(self, message: str, *, domain: str) -> None:
        self.message = f"{message}@{domain}"

    def __enter__(self) -> None:
        self.log.append(f"+{self.message}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.log.append(f"-{self.message}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    fresh: list[str] = []
    monkeypatch.setattr(Recorder, "log", fresh)
    monkeypatch.setattr(nvtx_ranges.nvtx, "annotate", Recorder)
    return fresh


def test_names_stay_bare_and_details_nest_inside(log: list[str]) -> None:
    with nvtx_ranges.annotate("case", "N1 C2 8x8 float32", "r07"), nvtx_ranges.annotate("measure"):
        log.append("body")
    assert log == [
        "+case@gspn2bench",
        "+N1 C2 8x8 float32 r07@gspn2bench",
        "+measure@gspn2bench",
        "body",
        "-measure@gspn2bench",
        "-N1 C2 8x8 float32 r07@gspn2bench",
        "-case@gspn2bench",
    ]


def fail_inside() -> None:
    with nvtx_ranges.annotate("gate", "r01"):
        raise RuntimeError("inside")


def test_ranges_close_when_the_body_fails(log: list[str]) -> None:
    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert log[-2:] == ["-r01@gspn2bench", "-gate@gspn2bench"]


def test_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="'mesure' is not one of scenario, case, gate"):
        nvtx_ranges.annotate("mesure").__enter__()  # type: ignore[arg-type]


@pytest.mark.parametrize("disable", ["", "1"])
def test_works_with_no_tool_attached(disable: str) -> None:
    code = (
        "from gspn2bench.nvtx_ranges import RANGE_NAMES, annotate\n"
        "for name in RANGE_NAMES:\n"
        "    with annotate(name), annotate(name, 'a detail'):\n"
        "        pass\n"
    )
    environment = {"NVTX_DISABLE": disable} if disable else {}
    subprocess.run([sys.executable, "-P", "-W", "error", "-c", code], check=True, env=environment)


class DummyDomain:
    """Stands in for the domain that nvtx returns without a profiler."""


@pytest.mark.parametrize(
    ("injected", "domain", "nothing"),
    [
        ("", DummyDomain(), False),
        ("/opt/lib.so", DummyDomain(), True),
        ("/opt/lib.so", object(), False),
    ],
)
def test_a_profiler_that_records_nothing_is_noticed(
    monkeypatch: pytest.MonkeyPatch, injected: str, domain: object, nothing: bool
) -> None:
    monkeypatch.setenv(nvtx_ranges.INJECTION, injected)
    monkeypatch.setattr(nvtx_ranges.nvtx, "get_domain", lambda name: domain)
    assert nvtx_ranges.profiler_records_nothing() == nothing


def test_without_a_profiler_nvtx_returns_that_domain() -> None:
    code = "from gspn2bench import nvtx_ranges; print(nvtx_ranges.domain_state())"
    environment = {k: v for k, v in os.environ.items() if k != nvtx_ranges.INJECTION}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == nvtx_ranges.SILENT
