"""Launches per call: reported by CUPTI, counted in the simulator, or the nodes of a CUDA graph."""

import os
from typing import Any

import torch

from gspn2bench.kernels import jit
from gspn2bench.kernels.contract import Call
from gspn2bench.system import executables


def count_launches(call: Call) -> int | None:
    """Run a call and count its launches.

    Returns:
        None under Nsight Systems or Nsight Compute, because CUPTI serves only one user at a time.
    """
    if jit.SIMULATED:
        with jit.counting_launches() as count:
            call()
        return count.launches
    if os.environ.get(executables.PROFILED):
        return None
    return len(durations_ms([call]))


def count_graph_nodes(graph: torch.cuda.CUDAGraph) -> int:
    """Kernels, memcpys and memsets that one replay of a captured graph runs.

    Args:
        graph: captured with ``keep_graph=True``.

    Raises:
        RuntimeError: the driver reports an error.
    """
    from cuda.bindings import driver

    def check(answer: tuple[Any, ...]) -> Any:
        error, *_, value = answer
        if error != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"graph: its nodes can't be counted: {error.name}")
        return value

    raw = driver.CUgraph(graph.raw_cuda_graph())
    total = check(driver.cuGraphGetNodes(raw))
    nodes = driver.cuGraphGetNodes(raw, total)[1] if total else ()
    kinds = driver.CUgraphNodeType
    work = {
        kinds.CU_GRAPH_NODE_TYPE_KERNEL,
        kinds.CU_GRAPH_NODE_TYPE_MEMCPY,
        kinds.CU_GRAPH_NODE_TYPE_MEMSET,
    }
    return sum(check(driver.cuGraphNodeGetType(node)) in work for node in nodes)


def durations_ms(calls: list[Call]) -> list[float]:
    """Durations, ms, of all GPU work of the calls, in order of start.

    CUPTI reports every launch, so 1,000 launches of one kernel are 1,000 entries. Memcpys and
    memsets count as launches.
    """
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    # acc_events: there is one cycle of events, and without it torch 2.11 warns that others are lost
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
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
