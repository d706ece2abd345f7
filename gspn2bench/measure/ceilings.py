"""Limits of the machine, measured at the start of each run: copy bandwidth and step time."""

from dataclasses import dataclass
from statistics import median
from typing import Final

import torch

from gspn2bench.kernels import jit
from gspn2bench.kernels.contract import Call
from gspn2bench.kernels.probes import build_step
from gspn2bench.measure import timing
from gspn2bench.measure.events import elapsed_ms

COPY_BYTES: Final = 2**31
"""Size of the tensor to copy; less where the GPU has little free memory."""
COPIES: Final = 4
"""Copies per sample."""
SAMPLES: Final = 15
STEPS: Final = (20_000, 120_000)
"""Two lengths of the probe that times one scan step."""


@dataclass(frozen=True)
class Ceilings:
    """Limits that were measured for this run; all unknown in the simulator.

    Args:
        copy_samples_gbps: device-to-device copy bandwidth, GB/s; counts bytes read and written.
        step_us: least time of one scan step, microseconds.
        l2_cold_ms: latency of a kernel whose data fits in the L2 cache, on rotating operand sets.
        l2_warm_ms: latency of the same kernel on one operand set.
    """

    copy_samples_gbps: tuple[float, ...] = ()
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

    def floor_ms(self, compulsory_bytes: int, steps: int) -> float | None:
        """Least time of a case, ms: the longer of its copy time and its chain of steps.

        Args:
            compulsory_bytes: each input read once and each output written once.
            steps: dependent steps of the scan.
        """
        if self.copy_gbps is None or self.step_us is None:
            return None
        copy_ms = compulsory_bytes / self.copy_gbps / 1e6
        return max(copy_ms, steps * self.step_us / 1e3)


def measure() -> Ceilings:
    """Measure the current GPU; in the simulator there is nothing to measure."""
    if jit.SIMULATED:
        return Ceilings()
    return Ceilings(copy_samples_gbps(), step_us(), *cold_and_warm_ms())


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

    calls = [bind_new_set() for _ in range(timing.rotation_sets(l2_bytes // 4, l2_bytes))]
    budget = timing.Budget(samples=20, seconds=1.0)
    cold, warm = (median(timing.measure("graph", c, budget).samples) for c in (calls, calls[:1]))
    return cold, warm


def step_us() -> float:
    """Least time of one scan step, microseconds: see ``probes.build_step``.

    Taken from the difference of two lengths, which cancels the launch cost.
    """
    out = jit.flat(torch.zeros(jit.WARP, device="cuda"))
    probe = build_step()

    def run_ms(steps: int) -> float:
        launch = jit.bind_launch(probe, 1, jit.WARP, out, steps)
        launch()
        return median(elapsed_ms(launch) for _ in range(SAMPLES))

    short, long = STEPS
    return (run_ms(long) - run_ms(short)) / (long - short) * 1e3
