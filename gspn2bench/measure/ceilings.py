"""Limits of the machine, measured at the start of each run: copy bandwidth and chains of steps.

The floor of a case is a time that no rung can go below. It uses the longer of two bounds: its bytes
at copy bandwidth, and its chain of dependent FMAs after a launch. The shuffle step and the
shared-memory step are recorded beside it. They bound only some designs: docs/notes.md.
"""

from dataclasses import dataclass
from statistics import median
from typing import Any, Final, NamedTuple

import torch

from gspn2bench.kernels import jit
from gspn2bench.kernels.contract import Call
from gspn2bench.kernels.probes import build_fma_chain, build_shuffle_step, build_step
from gspn2bench.measure import l2_cache, timing
from gspn2bench.measure.events import elapsed_ms
from gspn2bench.records.schema import FloorBound, Timing

COPY_BYTES: Final = 2**31
"""Size of the tensor to copy; less where the GPU has little free memory."""
COPIES: Final = 4
"""Copies per sample."""
SAMPLES: Final = 15
STEPS: Final = (20_000, 120_000)
"""Two lengths of a probe that times one step."""
SHORT_CHAIN: Final = 1_000
"""FMAs of the call that times a launch."""


class Floor(NamedTuple):
    """The least time of a case.

    Args:
        ms: the time.
        bound: which of the two bounds it is.
    """

    ms: float
    bound: FloorBound


@dataclass(frozen=True)
class Ceilings:
    """Limits that were measured for this run; all unknown in the simulator.

    Args:
        copy_samples_gbps: device-to-device copy bandwidth, GB/s; counts bytes read and written.
        fma_us: time of one FMA in a chain of dependent ones, microseconds.
        launch_us: graph time of a call beyond its chain, microseconds.
        shuffle_step_us: time of a line of one shuffle and two dependent FMAs, microseconds.
        step_us: time of a line through shared memory, with a barrier, microseconds.
        l2_cold_ms: latency of a kernel whose data fits in the L2 cache, on rotating operand sets.
        l2_warm_ms: latency of the same kernel on one operand set.
    """

    copy_samples_gbps: tuple[float, ...] = ()
    fma_us: float | None = None
    launch_us: float | None = None
    shuffle_step_us: float | None = None
    step_us: float | None = None
    l2_cold_ms: float | None = None
    l2_warm_ms: float | None = None

    @property
    def copy_gbps(self) -> float | None:
        """Median copy bandwidth, GB/s."""
        return median(self.copy_samples_gbps) if self.copy_samples_gbps else None

    @property
    def cold_is_cold(self) -> bool:
        """Whether the check kernel was slower on rotating operand sets than on one set."""
        if self.l2_cold_ms is None or self.l2_warm_ms is None:
            return False
        return self.l2_cold_ms > self.l2_warm_ms

    def floor(self, dram_bytes: int, dependent_fmas: int, mode: Timing) -> Floor | None:
        """Least time of a case: the longer of its copy time and its chain of FMAs.

        Args:
            dram_bytes: bytes that must move between DRAM and the GPU, each once.
            dependent_fmas: FMAs that must follow each other.
            mode: latency mode; device time leaves out the launch.

        Returns:
            None if the limits are unknown, or if nothing bounds the case, as device time of a
            module in a warm L2.
        """
        if self.copy_gbps is None or self.fma_us is None or self.launch_us is None:
            return None
        copy_ms = dram_bytes / self.copy_gbps / 1e6
        launch_us = 0.0 if mode == "device" else self.launch_us
        chain_ms = (launch_us + dependent_fmas * self.fma_us) / 1e3
        if not copy_ms and not chain_ms:
            return None
        return Floor(copy_ms, "bytes") if copy_ms >= chain_ms else Floor(chain_ms, "chain")


def measure() -> Ceilings:
    """Measure the current GPU; in the simulator there is nothing to measure."""
    if jit.SIMULATED:
        return Ceilings()
    fma_us = per_step_us(build_fma_chain())
    return Ceilings(
        copy_samples_gbps(),
        fma_us,
        launch_us(fma_us),
        per_step_us(build_shuffle_step()),
        per_step_us(build_step()),
        *cold_and_warm_ms(),
    )


def copy_samples_gbps() -> tuple[float, ...]:
    """Samples of the device-to-device copy bandwidth, GB/s; counts bytes read and written."""
    size = min(COPY_BYTES, torch.cuda.mem_get_info()[0] // 4)
    source = torch.randint(256, (size,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copies() -> None:
        for _ in range(COPIES):
            target.copy_(source)

    copies()
    sample_bytes = COPIES * 2 * size
    return tuple(sample_bytes / 1e6 / elapsed_ms(copies) for _ in range(SAMPLES))


def cold_and_warm_ms() -> tuple[float, float]:
    """Graph time, ms, of a kernel that reads and writes a quarter of the L2: cold, then warm."""
    l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    elements = l2_bytes // 4 // 2 // 4  # two tensors of float32

    def bind_new_set() -> Call:
        source = torch.randn(elements, device="cuda")
        target = torch.empty_like(source)

        def call() -> None:
            torch.mul(source, 2.0, out=target)

        call()
        return call

    calls = [bind_new_set() for _ in range(l2_cache.rotation_sets(l2_bytes // 4, l2_bytes))]
    budget = timing.Budget(samples=20, seconds=1.0)
    cold, warm = (median(timing.measure("graph", c, budget).samples) for c in (calls, calls[:1]))
    return cold, warm


def per_step_us(probe: Any) -> float:
    """Time of one step of a probe, microseconds.

    Taken from the difference of two lengths, which cancels the launch cost.

    Args:
        probe: a kernel of ``kernels.probes``.
    """

    def run_ms(steps: int) -> float:
        launch = _bind(probe, steps)
        launch()
        return median(elapsed_ms(launch) for _ in range(SAMPLES))

    short, long = STEPS
    return (run_ms(long) - run_ms(short)) / (long - short) * 1e3


def launch_us(fma_us: float) -> float:
    """Graph time of a short chain beyond its FMAs, microseconds.

    An empty kernel takes longer: a chain of some microseconds hides part of the next launch.
    """
    launch = _bind(build_fma_chain(), SHORT_CHAIN)
    launch()
    samples = timing.measure("graph", [launch], timing.Budget(samples=20, seconds=1.0)).samples
    return max(median(samples) * 1e3 - SHORT_CHAIN * fma_us, 0.0)


def _bind(probe: Any, steps: int) -> Call:
    out = jit.flat(torch.zeros(2 * jit.WARP, device="cuda"))
    return jit.bind_launch(probe, 1, jit.WARP, out, steps)
