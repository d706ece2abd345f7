"""What the machine can do at best, measured at the start of each run."""

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
COPIES: Final = 4
SAMPLES: Final = 15
STEPS: Final = (20_000, 120_000)


@dataclass(frozen=True)
class Ceilings:
    """Bounds that hold for this run; of a simulator nothing is known.

    Args:
        copy_samples_gbps: device-to-device copy bandwidth, GB/s, read and write counted.
        step_us: least time of one scan step, microseconds.
        l2_cold_ms: a kernel on data that fits the L2 cache, on rotated sets.
        l2_warm_ms: the same kernel on one set.
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
        """Whether rotating operand sets was seen to cost what a warm cache saves."""
        if self.l2_cold_ms is None or self.l2_warm_ms is None:
            return False
        return self.l2_cold_ms > self.l2_warm_ms

    def floor_ms(self, compulsory_bytes: int, steps: int) -> float | None:
        """Least time of a case, ms: its compulsory bytes at copy speed, or its chain of steps."""
        if self.copy_gbps is None or self.step_us is None:
            return None
        copying_ms = compulsory_bytes / self.copy_gbps / 1e6
        return max(copying_ms, steps * self.step_us / 1e3)


def measure() -> Ceilings:
    """Measure the current GPU; in the simulator there is nothing to measure."""
    if jit.SIMULATED:
        return Ceilings()
    return Ceilings(copy_samples_gbps(), step_us(), *cold_and_warm_ms())


def copy_samples_gbps() -> tuple[float, ...]:
    """Device-to-device copy bandwidth, GB/s, read and write both counted; one value a sample."""
    size = min(COPY_BYTES, torch.cuda.mem_get_info()[0] // 4)
    source = torch.randint(256, (size,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)

    def copies() -> None:
        for _ in range(COPIES):
            target.copy_(source)

    copies()
    moved = COPIES * 2 * size
    return tuple(moved / 1e6 / elapsed_ms(copies) for _ in range(SAMPLES))


def cold_and_warm_ms() -> tuple[float, float]:
    """Graph time of a kernel that reads and writes a quarter of the L2, cold and warm."""
    l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    elements = l2_bytes // 4 // 2 // 4  # two tensors of float32

    def call_on_its_own_set() -> Call:
        source = torch.randn(elements, device="cuda")
        target = torch.empty_like(source)

        def call() -> None:
            torch.mul(source, 2.0, out=target)

        call()
        return call

    calls = [call_on_its_own_set() for _ in range(timing.rotation(l2_bytes // 4, l2_bytes))]
    budget = timing.Budget(samples=20, seconds=1.0)
    cold, warm = (median(timing.measure("graph", c, budget).samples) for c in (calls, calls[:1]))
    return cold, warm


def step_us() -> float:
    """Least time of one scan step, microseconds: see ``probes.build_step``.

    The difference of two lengths, so that the cost of the launch falls out.
    """
    out = jit.flat(torch.zeros(jit.WARP, device="cuda"))
    probe = build_step()

    def run_ms(steps: int) -> float:
        launch = jit.bound(probe, 1, jit.WARP, out, steps)
        launch()
        return median(elapsed_ms(launch) for _ in range(SAMPLES))

    short, long = STEPS
    return (run_ms(long) - run_ms(short)) / (long - short) * 1e3
