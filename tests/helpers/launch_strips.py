"""Launch r08 thousands of times on a GPU: alone, beside a busy stream, beside a second process.

This is a separate program because a deadlock can only be ended from outside. It prints a JSON
object per mode: mode, launches, different (launches whose bits differ from those of the first
launch of their shape), and clusters (sizes launched). Every shape is compared with float64 once.

With the argument "neighbour" it is the second process. It prints a digest of its first results, and
launches kernels until its input ends.
"""

import hashlib
import json
import random
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numba import cuda

from gspn2bench.kernels.jit import bind_launch, flat, kernel
from gspn2bench.kernels.r08_strips import bind_backward, bind_forward
from gspn2bench.kernels.r08_strips.configuration import of_shape
from gspn2bench.problem import DType, Phase, ScanProblem
from gspn2bench.workload import gate, inputs


@dataclass(frozen=True)
class Kind:
    """What a kernel is compiled for; the ring is short, and a walk uses it several times."""

    width: int
    dtype: DType
    phase: Phase
    run: int
    warps: int
    blocks: int
    producers: int
    group: int
    lines: int


KINDS = (
    Kind(1000, "float32", "forward", 2, 2, 16, 1, 8, 16),
    Kind(512, "float32", "backward", 2, 1, 16, 2, 8, 16),
    Kind(1023, "float32", "forward", 4, 2, 8, 2, 4, 16),
    Kind(256, "bfloat16", "forward", 2, 1, 8, 1, 8, 16),
    Kind(511, "float16", "forward", 2, 4, 4, 1, 8, 32),
    Kind(1024, "float32", "backward", 4, 8, 2, 2, 4, 8),
    Kind(128, "float32", "forward", 2, 4, 1, 1, 8, 16),
)
SHAPES = 12
"""Random heights, batches and chunks per kind."""
PRIORITIES = (0, -1, 0)
"""Of the streams on which kernels of r08 run side by side; the launches of a shape keep to one.

The block scheduler prefers -1 to the busy stream, and 0 waits for the last blocks of that stream.
"""
BURST = 50
"""Launches between two waits of the host."""
HOG_BLOCKS, HOG_STEPS = 132 * 2 * 20, 20_000


class Shape:
    """One problem with its operands, its bound launch, and the results of its first launch."""

    def __init__(self, kind: Kind, problem: ScanProblem, seed: int) -> None:
        self.kind, self.problem = kind, problem
        self.stream = torch.cuda.current_stream()
        self.operands = inputs.make(problem, "cuda", seed)
        if seed % 2:  # values move by a column per line and hardly fade, so halos matter
            self.operands.w.fill_(0.01)
            self.operands.w[seed // 2 % 2 * 2].fill_(0.98)
        shape = (kind.run, kind.warps, kind.blocks, kind.producers, kind.group)
        config = of_shape(problem, *shape)
        assert config is not None, kind
        bind = bind_forward if problem.phase == "forward" else bind_backward
        self.call = bind(problem, self.operands, replace(config, lines=kind.lines))
        result = gate.check(problem, self.operands, self.call)
        assert result.passed, f"{problem}: {result.reason}"
        self.outputs = inputs.outputs(problem, self.operands)
        self.first = {name: tensor.clone() for name, tensor in self.outputs.items()}
        torch.cuda.synchronize()

    def launch(self, different: torch.Tensor) -> None:
        """Launch on the shape's stream, and add 1 to ``different`` if a bit differs."""
        with torch.cuda.stream(self.stream):
            inputs.poison(self.problem, self.operands)
            self.call()
            # bits, because NaN does not equal NaN
            unequal = [
                bits(self.outputs[name]).ne(bits(self.first[name])).any() for name in self.first
            ]
            different.add_(torch.stack(unequal).any())


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)


def shapes_of(kinds: Sequence[Kind]) -> list[Shape]:
    """Random shapes of some kinds; the same ones in every process."""
    shapes = []
    for i, kind in enumerate(kinds):
        generator = random.Random(i)
        for k in range(SHAPES):
            height = generator.randint(1, 200)
            chunk = generator.choice((None, generator.randint(1, height)))
            size = (generator.randint(1, 5), generator.randint(1, 2), height, kind.width)
            problem = ScanProblem(*size, kind.dtype, "down", chunk, phase=kind.phase)
            shapes.append(Shape(kind, problem, k))
    streams = [torch.cuda.Stream(priority=priority) for priority in PRIORITIES]
    for k, shape in enumerate(shapes):
        shape.stream = streams[k % len(streams)]
    return shapes


def digest(shapes: Sequence[Shape]) -> str:
    """A digest of the bits of all first results."""
    total = hashlib.sha256()
    for shape in shapes:
        for tensor in shape.first.values():
            total.update(bits(tensor).cpu().numpy().tobytes())
    return total.hexdigest()


class Hog:
    """A launch that fills every multiprocessor with threads, in many waves of blocks."""

    def __init__(self) -> None:
        @kernel("hog")
        def hog(out: Any, steps: int) -> None:
            value = np.float32(cuda.threadIdx.x)
            for _ in range(steps):
                value = value * np.float32(0.999) + np.float32(1)
            if value < 0:  # never: the loop is kept
                out[0] = value

        self.stream = torch.cuda.Stream()
        out = flat(torch.zeros(1, device="cuda"))
        with torch.cuda.stream(self.stream):
            self.call = bind_launch(hog, HOG_BLOCKS, 1024, out, HOG_STEPS)

    def launch(self) -> None:
        with torch.cuda.stream(self.stream):
            self.call()


def run(mode: str, shapes: Sequence[Shape], launches: int, hog: Hog | None = None) -> None:
    """Launch random shapes, and print the result of the mode."""
    generator = random.Random(mode)
    different = torch.zeros((), dtype=torch.int32, device="cuda")
    counts = {shape.stream: torch.zeros_like(different) for shape in shapes}
    torch.cuda.synchronize()
    for start in range(0, launches, BURST):
        for k in range(min(BURST, launches - start)):
            if hog is not None and k % (BURST // 2) == 0:
                hog.launch()
            shape = generator.choice(shapes)
            shape.launch(counts[shape.stream])
        torch.cuda.synchronize()
    result = {
        "mode": mode,
        "launches": launches,
        "different": sum(int(count) for count in counts.values()),
        "clusters": sorted({shape.kind.blocks for shape in shapes}),
    }
    print(json.dumps(result), flush=True)


@contextmanager
def neighbour(expected: str) -> Iterator[None]:
    """A second process that launches kernels; its results have the expected digest."""
    command = [sys.executable, "-P", __file__, "neighbour"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == expected, "a different process, other bits"
            yield
            assert process.poll() is None, "the second process has ended"
        finally:
            process.stdin.close()
    assert process.returncode == 0


def be_the_neighbour() -> None:
    shapes = shapes_of(KINDS[:1])
    matrix = torch.randn(4096, 4096, device="cuda")
    print(digest(shapes), flush=True)
    different = torch.zeros((), dtype=torch.int32, device="cuda")
    torch.cuda.synchronize()
    while not select.select([sys.stdin], [], [], 0)[0]:  # readable once the other process closes it
        for shape in shapes:
            shape.launch(different)
            torch.cuda.synchronize()
        torch.mm(matrix, matrix)
    assert int(different) == 0, "bits differ in the second process"


def main() -> None:
    """Run every mode."""
    if sys.argv[1:] == ["neighbour"]:
        be_the_neighbour()
        return
    launches = int(sys.argv[1])
    shapes = shapes_of(KINDS)
    run("alone", shapes, launches)
    run("busy stream", shapes, launches // 4, Hog())
    of_first = [shape for shape in shapes if shape.kind is KINDS[0]]
    with neighbour(digest(of_first)):
        run("second process", shapes, launches // 4)


if __name__ == "__main__":
    main()
