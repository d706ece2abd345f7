"""Labels: what a sweep writes into a profiler's range, and what is read from one."""

from importlib.metadata import EntryPoint
from itertools import product
from typing import Any

import pytest

from gspn2bench import registry
from gspn2bench.baselines.modules import MODULES
from gspn2bench.baselines.scans import SCANS
from gspn2bench.cases import scenario, selection
from gspn2bench.errors import UsageError
from gspn2bench.kernels.ladder import LADDER
from gspn2bench.label import MODES, Label, check_rung_id
from gspn2bench.problem import CASE_PHASES

from .helpers.report_fixtures import cases_of_every_kind

IDS = [*LADDER, *SCANS, *MODULES, "x", "train", "graph", "my-rung_2.0+é", "r01[b]", "(a,b)"]
BAD = [
    "",
    " ",
    "my rung",
    "a:b",
    'a"b',
    "a'b",
    "a\nb",
    "a\tb",
    "\x1b[1m",
    "a\x00",
    "\xa0",
    "\u2028",
]


def labels_of_cases() -> list[str]:
    shipped = [
        case.label for name in scenario.names() for case in selection.cases(scenario.load(name))
    ]
    return list(dict.fromkeys(shipped + [case.label for case in cases_of_every_kind()]))


@pytest.mark.parametrize(("phase", "timing"), list(product(CASE_PHASES, MODES)))
def test_every_label_reads_back(phase: Any, timing: Any) -> None:
    for case, rung in product(labels_of_cases(), IDS):
        label = Label(case, rung, phase, timing)
        assert Label.parse(str(label)) == label


@pytest.mark.parametrize(
    "text",
    [
        "",
        "measure",
        "N1 C2 8x8 float32 r01",
        "N1 C2 8x8 float32 r01 forward",
        "N1 C2 8x8 float32 r01 forward ",
        "N1 C2 8x8 float32 r01 sideways graph",
        "N1 C2 8x8 float32 r01 forward slow",
        "r01 forward graph",
        " r01 forward graph ",
        "N1 C2 8x8 float32  forward graph",
        "N1:C2 r01 forward graph",
        'N1 "C2" r01 forward graph',
        "N1\nC2 r01 forward graph",
        "N1 C2 r:1 forward graph",
    ],
)
def test_other_texts_are_no_labels(text: str) -> None:
    assert Label.parse(text) is None


@pytest.mark.parametrize("name", [*BAD, None, 3])
def test_an_id_that_a_label_cannot_carry_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match=r"^id: "):
        check_rung_id(name)
    with pytest.raises(ValueError, match=r"^id: "):
        Label("N1 C2 8x8 float32", name, "forward", "graph")
    for known in (LADDER["r01"], MODULES["gspn2"]):
        with pytest.raises(ValueError, match=r"^id: "):
            type(known)(**{**vars(known), "id": name})


@pytest.mark.parametrize("field", ["case", "phase", "timing"])
def test_other_fields_are_held_to_the_grammar_too(field: str) -> None:
    fields: dict[str, Any] = {"case": "c", "rung": "r", "phase": "train", "timing": "eager"}
    with pytest.raises(ValueError, match=rf"^{field}: "):
        Label(**fields | {field: "a\nb"})


def test_a_package_whose_rung_has_such_an_id_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(point: EntryPoint) -> Any:
        return type(LADDER["r01"])(**{**vars(LADDER["r01"]), "id": "a b"})

    monkeypatch.setattr(EntryPoint, "load", load)
    point = EntryPoint("bad", "package:RUNG", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with pytest.raises(UsageError, match=r"entry point bad can't be loaded: .*id: 'a b' contains"):
        registry.find("bad")
