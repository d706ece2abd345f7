"""The label of a trial in one latency mode, as profilers see it: the text of an NVTX range.

``turns`` names the range inside ``measure`` with a label, and ``profile`` reads it back from the
files of Nsight Systems and Nsight Compute. Words are separated by single spaces, and only the case,
which comes first, may contain spaces of its own. Nsight Compute prints a range as fields between
quotes, separated by colons, so a label contains neither.
"""

from dataclasses import dataclass
from typing import Final, Self, cast, get_args

from gspn2bench.problem import CASE_PHASES, CasePhase
from gspn2bench.records.schema import Timing

MODES: Final = get_args(Timing)
RESERVED: Final = ":\"'"


@dataclass(frozen=True)
class Label:
    """What is measured inside a range: ``parse(str(label))`` is the label again.

    Args:
        case: the label of the case (``Case.label``).
        rung: id of the rung.
        phase: of the case.
        timing: latency mode.

    Raises:
        ValueError: a field that the text could not carry; the message names the field.
    """

    case: str
    rung: str
    phase: CasePhase
    timing: Timing

    def __post_init__(self) -> None:
        _check_text("case", self.case, RESERVED)
        check_rung_id(self.rung)
        for field, choices in (("phase", CASE_PHASES), ("timing", MODES)):
            value = getattr(self, field)
            if value not in choices:
                raise ValueError(f"{field}: {value!r} is not one of {', '.join(choices)}")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The label that is the whole text; None if the text is not a label."""
        words = text.rsplit(" ", 3)
        if len(words) != 4:
            return None
        case, rung, phase, timing = words
        try:
            return cls(case, rung, cast(CasePhase, phase), cast(Timing, timing))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.case} {self.rung} {self.phase} {self.timing}"


def check_rung_id(name: str) -> None:
    """Hold the id of a rung or a module to what a label can carry.

    Raises:
        ValueError: it is empty, or it contains a space, a colon, a quote or a control character.
    """
    _check_text("id", name, RESERVED + " ")


def _check_text(field: str, text: str, reserved: str) -> None:
    if not isinstance(text, str) or not text:
        raise ValueError(f"{field}: {text!r} is not a name")
    for character in text:
        if character in reserved or not character.isprintable():
            raise ValueError(
                f"{field}: {text!r} contains {character!r}; spaces, colons, quotes and control "
                "characters are not allowed"
            )
