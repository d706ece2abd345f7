"""How much slower the rung that ``rung="auto"`` chooses is than the best one, on recorded runs.

``python -m tests.helpers.choice_losses RUN ...`` prints the loss of each case, the worst last, and
constants for gspn2bench/ops/choice.py that fit these runs. A RUN is the folder of a run.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gspn2bench.ops.choice import CHOICES, STRIPS, Strips, preferred
from gspn2bench.problem import PHASES, Direction, Phase, ScanProblem
from gspn2bench.records.schema import Row
from gspn2bench.records.store import Run, read_run

MOST_LOSS = 0.03
"""Largest loss that the rule may have on a recorded case."""


@dataclass(frozen=True)
class Loss:
    """The rule on one case of a run.

    Args:
        run: its id.
        case: label of the case, and the phase.
        problem: one scan of the case, with the longest lines.
        directions: scans of a call.
        multiprocessors: of the GPU.
        latency_ms: graph time by rung, of the rungs among which the rule chooses.
    """

    run: str
    case: str
    problem: ScanProblem
    directions: int
    multiprocessors: int
    latency_ms: dict[str, float]

    @property
    def chosen(self) -> str:
        """The rung that the rule prefers."""
        return preferred(self.problem, self.directions, self.multiprocessors)

    @property
    def best(self) -> str:
        """The fastest rung."""
        return min(self.latency_ms, key=lambda rung: self.latency_ms[rung])

    @property
    def loss(self) -> float:
        """Time of the chosen rung over that of the best one, minus 1."""
        return self.of(self.chosen)

    @property
    def load(self) -> float:
        """Blocks of r07 per multiprocessor."""
        blocks = self.problem.slices * self.problem.chunks * self.directions
        return blocks / self.multiprocessors

    def of(self, rung: str) -> float:
        """Time of a rung over that of the best one, minus 1."""
        return self.latency_ms[rung] / self.latency_ms[self.best] - 1

    def __str__(self) -> str:
        times = ", ".join(f"{rung} {ms:.4g} ms" for rung, ms in self.latency_ms.items())
        return f"{self.loss:6.1%}  {self.chosen} of {times}: {self.case}"


def losses(runs: Iterable[Run]) -> list[Loss]:
    """The cases of runs with graph times of the chosen rung and of another one, worst last."""
    found = []
    for run in runs:
        gpu = run.record.environment.gpu
        if gpu is None or gpu.multiprocessors is None or run.record.simulated:
            continue
        groups: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
        for row in run.rows:
            timed = row.timing == "graph" and row.status == "ok" and row.part == "kernel"
            if timed and not row.logits and row.rung in CHOICES:
                groups[row.case, row.phase][row.rung] = row
        for (case, phase), rows in groups.items():
            first = next(iter(rows.values()))
            latency_ms = {rung: rows[rung].latency_ms or 0.0 for rung in CHOICES if rung in rows}
            loss = Loss(
                run.record.run_id,
                f"{case}, {phase}",
                _problem(first),
                first.directions,
                gpu.multiprocessors,
                latency_ms,
            )
            if len(rows) > 1 and loss.chosen in rows:
                found.append(loss)
    return sorted(found, key=lambda loss: loss.loss)


def _problem(row: Row) -> ScanProblem:
    """One scan of a row; of four directions, one with the longest lines."""
    direction: Direction = "down" if row.width >= row.height else "right"
    if row.direction != "all":
        direction = row.direction
    steps = row.height if direction in ("down", "up") else row.width
    return ScanProblem(
        row.batch,
        row.channels,
        row.height,
        row.width,
        dtype=row.dtype,
        direction=direction,
        chunk=min(row.chunk, steps),
        weights="shared" if row.weights == "shared" else "channel",
        phase="backward" if row.phase == "backward" else "forward",
    )


def fitted(cases: Sequence[Loss]) -> dict[tuple[Phase, int], Strips]:
    """Constants in place of ``STRIPS`` with the least worst loss for each length of line."""
    result: dict[tuple[Phase, int], Strips] = {}
    for phase, item_bytes in STRIPS:
        by_line: dict[int, list[Loss]] = defaultdict(list)
        for loss in cases:
            kind = loss.problem.phase, loss.problem.item_bytes
            both = {"r07", "r08"} <= loss.latency_ms.keys()
            if both and loss.chosen != "r09" and kind == (phase, item_bytes):
                by_line[loss.problem.line].append(loss)
        strips = tuple((line, _most(by_line[line])) for line in sorted(by_line))
        result[phase, item_bytes] = strips or STRIPS[phase, item_bytes]
    return result


def _most(cases: Sequence[Loss]) -> float:
    """The load up to which r08 is taken with the least worst loss, then the least mean."""

    def rate(most: float) -> tuple[float, float]:
        lost = [case.of("r08" if case.load <= most else "r07") for case in cases]
        return (max(lost), sum(lost))

    return min((0.0, *sorted({case.load for case in cases})), key=rate)


def quad_line(cases: Sequence[Loss], phase: Phase) -> int:
    """The line up to which r09 is taken in calls of four directions, with the least worst loss."""
    four = [
        case
        for case in cases
        if case.directions > 1 and case.problem.phase == phase and "r09" in case.latency_ms
    ]

    def rate(longest: int) -> tuple[float, float]:
        lost = [0.0]
        for case in four:
            others = [case.of(rung) for rung in case.latency_ms if rung != "r09"]
            lost.append(case.of("r09") if case.problem.line <= longest else min(others))
        return (max(lost), sum(lost))

    return min((0, *sorted({case.problem.line for case in four})), key=rate)


def main(paths: Sequence[str]) -> None:
    """Print the losses of runs, and constants that fit them."""
    cases = losses(read_run(Path(path)) for path in paths)
    print(*cases, sep="\n")
    for phase in PHASES:
        print(f"QUAD_LINE[{phase!r}] = {quad_line(cases, phase)}")
    for key, strips in fitted(cases).items():
        shown = ", ".join(f"({line}, {most:.3g})" for line, most in strips)
        print(f"STRIPS[{key}] = ({shown},)")


if __name__ == "__main__":
    main(sys.argv[1:])
