"""What r02 to r06 share on the host: a block's shape, the launch, its counts and its limits.

In these rungs a block walks the lines of one chunk, and the threads of the block lie along the
line. Each rung's file has only what differs: its kernels and how it chooses the block's shape.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gspn2bench.kernels.contract import Bind, Call, Operands, Rung, compulsory_traffic
from gspn2bench.kernels.jit import Array, bind_launch
from gspn2bench.kernels.launch_limits import grid_limit_reason, line_limit_reason, whole_warps
from gspn2bench.kernels.operand_arrays import (
    backward_arrays,
    forward_arrays,
    scratch,
    scratch_traffic,
)
from gspn2bench.kernels.transposed import (
    tile_limit_reason,
    transposed,
    transposed_launches,
    transposed_traffic,
)
from gspn2bench.problem import ScanProblem, ceil_div


@dataclass(frozen=True)
class Block:
    """The constants that a kernel is compiled with.

    Args:
        length: positions of a line.
        upward: whether the scan starts at the last line.
        dtype: storage type.
        lanes: threads along the line (blockDim.x), a multiple of a warp.
        cslice: slices per block (blockDim.y).
    """

    length: int
    upward: bool
    dtype: str
    lanes: int
    cslice: int = 1

    @property
    def one_pass(self) -> bool:
        """Whether a thread has at most one position, so the kernel needs no loop over passes."""
        return self.length <= self.lanes


Build = Callable[[Block], Any]
"""Compiles a kernel; the result is cached by the block."""


def block_of(problem: ScanProblem, lanes: int, cslice: int = 1) -> Block:
    """The block of this shape for a problem."""
    upward = problem.direction in ("up", "left")
    return Block(problem.line, upward, problem.dtype, lanes, cslice)


def one_slice(problem: ScanProblem) -> Block:
    """One slice per block, one thread per position, up to 1024 threads."""
    return block_of(problem, whole_warps(problem.line))


def plane_sizes(problem: ScanProblem) -> tuple[int, ...]:
    """The last arguments of every kernel: height, width, chunk, chunks."""
    return problem.height, problem.width, problem.chunk_length, problem.chunks


def block_rung(
    *,
    id: str,  # noqa: A002
    title: str,
    idea: str,
    source: str,
    build_forward: Build,
    build_backward: Build,
    neighbours: Literal["global", "shared"],
    choose: Callable[[ScanProblem], Block] = one_slice,
    sizes: Callable[[ScanProblem], tuple[int, ...]] = plane_sizes,
    native: Literal["down", "right"] = "down",
) -> Rung:
    """A rung of one launch, with weights per channel.

    Args:
        id: of the rung, as are ``title``, ``idea``, ``source`` and ``native``.
        title: see ``Rung``.
        idea: see ``Rung``.
        source: see ``Rung``.
        build_forward: compiles the forward kernel.
        build_backward: compiles the backward kernel.
        neighbours: memory from which a thread reads its neighbours on the previous line. With
            "global" the tensors must be float32, or h would be rounded at every line, and backward
            gets a scratch array for g.
        choose: the shape of a problem's block.
        sizes: the last arguments of the kernels.
        native: "down": "right" and "left" run on transposed copies; "right": no other direction.
    """
    in_global = neighbours == "global"

    def launch(build: Build, problem: ScanProblem, arrays: list[Array]) -> Call:
        block = choose(problem)
        grid = ceil_div(problem.slices, block.cslice) * problem.chunks
        shape = (block.lanes, block.cslice)
        return bind_launch(build(block), grid, shape, *arrays, *sizes(problem))

    def forward(problem: ScanProblem, operands: Operands) -> Call:
        return launch(build_forward, problem, forward_arrays(operands))

    def backward(problem: ScanProblem, operands: Operands) -> Call:
        g = [scratch(operands, operands.h.numel())] if in_global else []
        return launch(build_backward, problem, [*backward_arrays(operands), *g])

    def launches(problem: ScanProblem) -> int:
        return 1 + (transposed_launches(problem) if native == "down" else 0)

    def traffic(problem: ScanProblem) -> int:
        moved = compulsory_traffic(problem)
        if in_global and problem.phase == "backward":
            moved += scratch_traffic(problem.slices * problem.plane)
        return moved + (transposed_traffic(problem) if native == "down" else 0)

    def unsupported_reason(problem: ScanProblem) -> str | None:
        if in_global and problem.dtype != "float32":
            return f"dtype: {problem.dtype}; {id} re-reads h[i-1] as stored: it must be exact"
        if native == "right" and problem.direction != "right":
            return f"direction: {problem.direction}; {id} scans right, as r01 does"
        if problem.weights != "channel":
            return f"weights: shared; {id} has one set per channel"
        if not in_global and (reason := line_limit_reason(problem)):
            return reason
        return grid_limit_reason(problem) or (
            tile_limit_reason(problem) if native == "down" else None
        )

    def every_direction(bind: Bind) -> Bind:
        return transposed(bind) if native == "down" else bind

    return Rung(
        id=id,
        title=title,
        idea=idea,
        source=source,
        native=native,
        forward=every_direction(forward),
        launches=launches,
        backward=every_direction(backward),
        unsupported_reason=unsupported_reason,
        traffic=traffic,
    )
