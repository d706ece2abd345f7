"""Launches of one call: reported by the driver through CUPTI, or counted in the simulator.

Those of a CUDA graph are its nodes.
"""

import os
from typing import Any

import torch

from gspn2bench.kernels import jit
from gspn2bench.kernels.contract import Call
from gspn2bench.system import executables


def observe(call: Call) -> int | None:
    """Kernel launches that one call really makes.

    None under Nsight Systems or Nsight Compute: CUPTI serves one of its users at a time.
    """
    if jit.SIMULATED:
        with jit.counting_launches() as count:
            call()
        return count.launches
    if os.environ.get(executables.PROFILED):
        return None
    return len(durations_ms([call]))


def in_graph(graph: torch.cuda.CUDAGraph) -> int:
    """Kernels, copies and fills that a replay of a captured graph runs.

    Args:
        graph: made with ``keep_graph=True``.

    Raises:
        RuntimeError: the driver does not say.
    """
    from cuda.bindings import driver

    def told(answer: tuple[Any, ...]) -> Any:
        error, *_, last = answer
        if error != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"graph: its nodes can't be counted: {error.name}")
        return last

    raw = driver.CUgraph(graph.raw_cuda_graph())
    total = told(driver.cuGraphGetNodes(raw))
    nodes = driver.cuGraphGetNodes(raw, total)[1] if total else ()
    kinds = driver.CUgraphNodeType
    work = {
        kinds.CU_GRAPH_NODE_TYPE_KERNEL,
        kinds.CU_GRAPH_NODE_TYPE_MEMCPY,
        kinds.CU_GRAPH_NODE_TYPE_MEMSET,
    }
    return sum(told(driver.cuGraphNodeGetType(node)) in work for node in nodes)


def durations_ms(calls: list[Call]) -> list[float]:
    """Durations of everything that the calls ran on the GPU, in order of start, milliseconds.

    CUPTI reports each launch by itself, so that a thousand launches of one kernel are a thousand
    entries. Copies and fills count too: they are launches of work all the same.
    """
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for call in calls:
            call()
        torch.cuda.synchronize()
    collected: Any = profiler.profiler
    events = [
        event
        for event in collected.kineto_results.events()
        if event.device_type().name == "CUDA" and not event.is_user_annotation()
    ]
    events.sort(key=lambda event: event.start_ns())
    return [event.duration_ns() / 1e6 for event in events]
