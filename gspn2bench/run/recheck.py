"""The gate after the last sample block, on the calls that were measured."""

from collections.abc import Sequence

import torch

from gspn2bench.measure.timing import Sampler
from gspn2bench.nvtx_ranges import annotate
from gspn2bench.workload.base import OperandsT, Workload
from gspn2bench.workload.gate import GateResult
from gspn2bench.workload.inputs import VARIED


def recheck(
    work: Workload[OperandsT], operand_sets: Sequence[OperandsT], sampler: Sampler
) -> GateResult:
    """Change the inputs of one operand set, run its call as it was measured, and compare.

    The preflight checked other operands, before thousands of calls. A call that answers from a
    cache, or that writes its outputs only the first few times, passes there. Here its outputs are
    those of the inputs before the change. The outputs are not poisoned, so a call cannot tell this
    run from a sample by reading them. In graph mode a replay is checked, not a new launch.

    Args:
        work: the workload.
        operand_sets: its operands; the inputs of one set are changed and restored.
        sampler: took the samples on these operands.
    """
    with annotate("gate"):
        index = sampler.next_set()
        operands = operand_sets[index]
        work.vary(operands)
        sampler.rerun(index)
        try:
            result = work.compare(operands)
        except torch.OutOfMemoryError:  # the operands of all rungs are in memory now
            torch.cuda.empty_cache()
            result = work.compare(operands)
        work.vary(operands, 1 / VARIED)
    return result
