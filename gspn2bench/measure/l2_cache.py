"""The state of the L2 cache before a cold sample: rotation of operand sets, no persisting lines."""

import math

from gspn2bench.kernels import jit


def rotation_sets(set_bytes: int, l2_bytes: int) -> int:
    """Operand sets in a rotation that keeps the L2 cold.

    Between two uses of a set, the other sets move at least twice the size of the L2.

    Args:
        set_bytes: size of one operand set.
        l2_bytes: size of the L2 cache.
    """
    return 1 if set_bytes >= 2 * l2_bytes else 1 + math.ceil(2 * l2_bytes / set_bytes)


def reset_persisting_lines() -> None:
    """Turn persisting lines of the L2 into normal ones, which the rotation evicts.

    A kernel can mark its operands as persisting. Without the reset they would stay in the cache
    while other operand sets pass through it. A GPU or driver that refuses the reset has no such
    lines. A broken context is noticed by the next synchronization.
    """
    if jit.SIMULATED:
        return
    from cuda.bindings import driver

    driver.cuCtxResetPersistingL2Cache()
