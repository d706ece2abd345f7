"""Count how often a verdict of ``gspn2bench compare`` is right, on pairs of sample sets.

Synthetic noise has the traits of GPU timings, but it was not measured, and its table says so.
Reference runs under results/ are judged by the same functions. ``python -m
tests.helpers.calibration [PAIRS]`` prints the tables of docs/measured/calibration.md.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np

from gspn2bench.analysis.compare import KEY
from gspn2bench.analysis.frame import QUOTED
from gspn2bench.analysis.significance import MIN_SAMPLES, Verdict, judge
from gspn2bench.records.schema import Row, RunRecord
from gspn2bench.records.store import RUN_FILE, Run, read_run

Samples = Sequence[float]
Pair = tuple[Samples, Samples]

ROOT = Path(__file__).resolve().parents[2]
PAIRS = 50
SLOWDOWN = 1.05
CHANGES = (0.9, 0.95, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.1)


@dataclass(frozen=True)
class Noise:
    """A synthetic source of samples; every quantity is a share of the latency.

    Args:
        spread: standard deviation of a sample within its run.
        offset: standard deviation of a whole run, which its samples do not show.
        drift: largest change of the latency from the first sample to the last.
        correlation: of neighbouring samples.
        outliers: share of delayed samples.
        delay: mean of that delay.
        gap: distance of a second, slower mode, which holds half the samples.
        counts: samples of BASE and of NEW.
    """

    spread: float = 0.005
    offset: float = 0.004
    drift: float = 0.003
    correlation: float = 0.3
    outliers: float = 0.05
    delay: float = 0.05
    gap: float = 0.0
    counts: tuple[int, int] = (30, 30)

    def pair(self, rng: np.random.Generator) -> Pair:
        """An A/A pair: two runs of the same code."""
        first, second = self.counts
        return self._run(rng, first), self._run(rng, second)

    def _run(self, rng: np.random.Generator, count: int) -> Samples:
        shocks = rng.normal(size=count)
        noise = shocks.copy()
        for i in range(1, count):
            noise[i] = self.correlation * noise[i - 1]
            noise[i] += np.sqrt(1 - self.correlation**2) * shocks[i]
        drift = self.drift * rng.uniform(-1, 1) * np.linspace(-0.5, 0.5, count)
        late = (rng.random(count) < self.outliers) * rng.exponential(self.delay, count)
        # the mode changes with a probability of 0.2 per sample
        mode = self.gap * (np.cumsum(rng.random(count) < 0.2) + rng.integers(2) & 1)
        run = self.offset * rng.normal()
        return tuple(np.exp(run + drift + self.spread * noise + late + mode))


TYPICAL = Noise()
REALISTIC = {
    "typical: 0.5 % spread, runs 0.4 % apart, 5 % outliers": TYPICAL,
    "quiet: 0.3 % spread, runs 0.3 % apart": Noise(spread=0.003, offset=0.003),
    "noisy: 1 % spread, runs 0.5 % apart": Noise(spread=0.01, offset=0.005),
    "drift of up to 1 %, neighbours alike (0.8)": replace(TYPICAL, drift=0.01, correlation=0.8),
    "one sample in ten delayed, by 20 %": replace(TYPICAL, outliers=0.1, delay=0.2),
    "two modes, 1 % apart": replace(TYPICAL, gap=0.01),
    "30 samples against 8": replace(TYPICAL, counts=(30, 8)),
    "no spread within a run": Noise(spread=0, drift=0, outliers=0),
}
"""Noise under which a slowdown of 5 % must be found."""
HARSH = {
    "one sample in five delayed, by 20 %": replace(TYPICAL, outliers=0.2, delay=0.2),
    "two modes, 6 % apart": replace(TYPICAL, gap=0.06),
    "10 % spread": Noise(spread=0.1),
    "10 % spread, neighbours alike (0.8)": Noise(spread=0.1, correlation=0.8),
    "10 % spread, 5 samples each": Noise(spread=0.1, counts=(5, 5)),
    "runs 0.7 % apart": Noise(offset=0.007),
}
"""Noise under which no verdict may be false, though a slowdown of 5 % may be missed."""
BEYOND = {"runs 1 % apart": Noise(offset=0.01)}
"""Noise that violates the assumptions of the rule: counted, but not tested."""


@cache
def synthetic(noise: Noise, count: int = PAIRS) -> tuple[Pair, ...]:
    """Seeded A/A pairs of synthetic samples."""
    rng = np.random.default_rng(2512_07884)
    return tuple(noise.pair(rng) for _ in range(count))


@cache
def tally(pairs: tuple[Pair, ...], factor: float = 1.0) -> Counter[Verdict]:
    """Verdicts on A/A pairs after every sample of NEW is multiplied by ``factor``."""
    return Counter(judge(base, [factor * ms for ms in new]).verdict for base, new in pairs)


def false(counts: Counter[Verdict]) -> int:
    """The number of false verdicts, if the code of both sides is equal."""
    return counts[Verdict.SLOWER] + counts[Verdict.FASTER]


LIBRARY_ROW = "a library's row"
COLD_START = ", no warm-up"
"""Ends the name of a source whose rows were recorded before sample blocks had a warm-up."""


def reference_runs() -> list[Path]:
    """The run folders under results/ that git tracks, without a user's own runs."""
    command = ["git", "ls-files", "-z", f"results/*/{RUN_FILE}"]
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [ROOT / Path(name).parent for name in result.stdout.split("\0") if name]


def recorded(folders: Iterable[Path]) -> dict[str, tuple[Pair, ...]]:
    """A/A pairs from the runs that were made on a GPU, by kind.

    There are two kinds in each quoted latency mode: the two halves of one row's samples, with rows
    of libraries' kernels (modules and baselines) apart, and matching rows of two runs of the same
    code on the same GPU and driver. Halves of rows without sample blocks, which had no warm-up, are
    apart too.
    """
    runs = [run for run in map(read_run, folders) if not run.record.simulated]
    sources: dict[str, tuple[Pair, ...]] = {}
    for timing in QUOTED:
        for name, libraries in (("a row", False), (LIBRARY_ROW, True)):
            for warm, end in ((True, ""), (False, COLD_START)):
                pairs = tuple(_halves(runs, timing, libraries, warm))
                sources[f"{timing} time, halves of {name}{end}"] = pairs
        sources[f"{timing} time, run against run"] = tuple(_repeats(runs, timing))
    return {name: pairs for name, pairs in sources.items() if pairs}


def _halves(runs: Iterable[Run], timing: str, libraries: bool, warm: bool) -> Iterator[Pair]:
    for run in runs:
        ours = {row.rung for row in run.rows if row.launches_expected is not None}
        rows = [row for row in run.rows if bool(row.block_samples) == warm]
        for key, samples in _samples(rows, timing).items():
            half = len(samples) // 2
            if half >= MIN_SAMPLES and (key[KEY.index("rung")] not in ours) == libraries:
                yield samples[:half], samples[half:]


def _repeats(runs: Iterable[Run], timing: str) -> Iterator[Pair]:
    for base, new in combinations(runs, 2):
        if _origin(base.record) == _origin(new.record):
            before, after = _samples(base.rows, timing), _samples(new.rows, timing)
            yield from ((before[key], after[key]) for key in before if key in after)


def _samples(rows: Iterable[Row], timing: str) -> dict[tuple[object, ...], Samples]:
    return {
        tuple(getattr(row, field) for field in (*KEY, "l2")): row.samples_ms
        for row in rows
        if row.status == "ok" and row.timing == timing and row.samples_ms
    }


def _origin(record: RunRecord) -> tuple[object, ...]:
    return record.machine, record.environment.driver, record.environment.source


def noises(count: int = PAIRS) -> str:
    """The verdicts per kind of noise, as a Markdown table."""
    lines = [
        f"| synthetic noise, {count} pairs each | A/A: SAME | AMBIGUOUS | false | +5 %: SLOWER |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, noise in {**REALISTIC, **HARSH, **BEYOND}.items():
        lines.append(f"| {name} | {_cells(synthetic(noise, count))} |")
    return "\n".join(lines)


def changes(count: int = PAIRS) -> str:
    """The verdicts per true change under typical noise, as a Markdown table."""
    order = (Verdict.FASTER, Verdict.SAME, Verdict.AMBIGUOUS, Verdict.SLOWER)
    lines = [
        f"| true change, {count} synthetic pairs | {' | '.join(order)} |",
        "|---|--:|--:|--:|--:|",
    ]
    for factor in CHANGES:
        counts = tally(synthetic(TYPICAL, count), factor)
        cells = " | ".join(str(counts[verdict]) for verdict in order)
        lines.append(f"| {100 * (factor - 1):+.0f} % | {cells} |")
    return "\n".join(lines)


def references() -> str:
    """The verdicts on samples of the reference runs, as a Markdown table."""
    lines = [
        "| recorded on a GPU | pairs | A/A: SAME | AMBIGUOUS | false | +5 %: SLOWER |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, pairs in recorded(reference_runs()).items():
        lines.append(f"| {name} | {len(pairs)} | {_cells(pairs)} |")
    return "\n".join(lines)


def _cells(pairs: tuple[Pair, ...]) -> str:
    equal, slower = tally(pairs), tally(pairs, SLOWDOWN)
    counts = (equal[Verdict.SAME], equal[Verdict.AMBIGUOUS], false(equal), slower[Verdict.SLOWER])
    return " | ".join(map(str, counts))


if __name__ == "__main__":
    many = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    print(references(), noises(many), changes(many), sep="\n\n")
