"""Time and memory of four scans with u that keep h of every K-th line, on a GPU.

``python -m tests.helpers.checkpoint_memory N C H W [DTYPE [channel]]`` prints a line for each K and
for h kept whole. Weights are logits, shared by the channels unless "channel" is given. Held memory
is that between forward and backward beyond the inputs and the result. Peak memory is the most
beyond the inputs. Times are medians of 10 calls of forward and backward, eager and as a CUDA graph.
"""

import sys
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from gspn2bench.measure.events import elapsed_ms
from gspn2bench.ops import line_scan4
from gspn2bench.ops.checkpoints import KeepEvery

LINES: tuple[KeepEvery | None, ...] = (None, "auto", 8, 16, 32, 64, 128, 256, 512, 1024)
REPEATS = 10


def inputs(sizes: Sequence[int], dtype: torch.dtype, shared: bool) -> tuple[Tensor, ...]:
    """x, lam, logits and u, random, which require gradients."""
    batch, channels, height, width = sizes
    sets = (batch,) if shared else (batch, channels)
    shapes = (sizes, (4, *sizes), (4, 3, *sets, height, width), (4, *sizes))
    return tuple(
        torch.randn(shape, device="cuda", dtype=dtype).requires_grad_() for shape in shapes
    )


def scan(tensors: tuple[Tensor, ...], keep_every: KeepEvery | None) -> Tensor:
    """U h of four scans."""
    x, lam, logits, u = tensors
    return line_scan4(x, lam, logits, u=u, logits=True, keep_every=keep_every)


def memory(tensors: tuple[Tensor, ...], keep_every: KeepEvery | None) -> tuple[int, int]:
    """Held and peak memory of a call, bytes."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    y = scan(tensors, keep_every)
    held = torch.cuda.memory_allocated() - before - y.numel() * y.element_size()
    torch.autograd.grad(y, tensors, torch.ones_like(y))
    return held, torch.cuda.max_memory_allocated() - before


def times(call: Callable[[], Any]) -> tuple[float, float]:
    """Eager time and graph time of a call, ms."""
    eager = median(elapsed_ms(call) for _ in range(REPEATS))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    graph.replay()
    return eager, median(elapsed_ms(graph.replay) for _ in range(REPEATS))


def main(arguments: Sequence[str]) -> None:
    """Print a line for each K."""
    sizes = [int(size) for size in arguments[:4]]
    dtype = getattr(torch, arguments[4] if len(arguments) > 4 else "float32")
    tensors = inputs(sizes, dtype, shared="channel" not in arguments[5:])
    upstream = torch.ones_like(tensors[1])
    print(f"{'K':>6} {'held, MB':>10} {'peak, MB':>10} {'eager, ms':>10} {'graph, ms':>10}")
    for keep_every in LINES:
        if isinstance(keep_every, int) and keep_every > max(sizes[2:]):
            continue

        def call(keep_every: KeepEvery | None = keep_every) -> None:
            torch.autograd.grad(scan(tensors, keep_every), tensors, upstream)

        call()
        held, peak = memory(tensors, keep_every)
        eager, graph = times(call)
        shown = "all" if keep_every is None else str(keep_every)
        print(f"{shown:>6} {held / 1e6:10.2f} {peak / 1e6:10.2f} {eager:10.3f} {graph:10.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
