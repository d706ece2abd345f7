"""The sum over channels in r07's backward with shared weights, inside a cluster of blocks.

The blocks of a cluster walk the channels of one image side by side. Each owns a section of the
line's columns. A thread sends g and h of its columns to the section's owner, into shared memory.
Once a group of lines has arrived, the owner sums g h over the channels, in their order, and writes
the gradients of the weights.

A section holds three groups of lines: one is being sent, one may still be arriving, and a slower
block may still be summing one. A block waits for a group after it has sent the next one, so the
latency of the exchange is hidden.

There are two kinds of wait. An mbarrier per group counts the bytes that arrive: then the group can
be summed. The barrier of the cluster shows that all blocks have summed a group: then its memory can
be used again. Neither has a fence, which would also wait for loads and stores of global memory.

A line of a section has a row per channel: g of the section's columns, padding, h of the column
before the section, of its columns and of the column after it, and padding. Rows begin at multiples
of 16 bytes. So does the section, since the edges before it in shared memory fill such multiples.
"""

from typing import Any

import numpy as np
from numba import cuda

from gspn2bench.kernels.arithmetic import move
from gspn2bench.kernels.cluster import (
    cluster_arrive,
    cluster_arrive_relaxed,
    cluster_wait,
    mbarrier_expect,
    mbarrier_init,
    mbarrier_wait,
    remote_address,
    shared_address,
    store_remote_if,
    store_remote_pair,
)
from gspn2bench.kernels.jit import Array, device_function
from gspn2bench.kernels.r07_gspn2.configuration import Config
from gspn2bench.kernels.r07_gspn2.section import GROUPS, PADDING, Layout
from gspn2bench.kernels.storage import storage_of
from gspn2bench.problem import ceil_div


def build_exchange(config: Config) -> tuple[Any, Any, Any, Any]:
    """The device functions ``open_section``, ``send``, ``exchange`` and ``finish``.

    They share these arguments: ``section``, the dynamic shared memory of the block; ``place``, from
    ``open_section``; ``number``, of a group of lines, from 0; ``rows``, lines of the walk; and
    ``origin``, the element of the weights at which the walk begins.
    """
    layout, cluster, depth, threads = Layout(config), config.cluster, config.depth, config.threads
    lanes, owned, row, line_size = layout.lanes, layout.columns, layout.row, layout.line
    group_size, mbarriers = layout.group, 4 * layout.size
    run = config.words * config.pack
    columns = config.line_words * config.pack
    stride = columns if config.upward else -columns  # from line to line of the walk
    first = owned + PADDING // 2  # h of the section's first column, in a row
    before, after = first - 1, first + owned
    passes = ceil_div(depth * owned, threads)
    pairs = run if run % 2 == 0 else 0  # columns sent two at a time
    line_bytes, side_bytes = cluster * 8 * owned, cluster * 4
    narrow = storage_of(config.dtype).narrow

    @device_function
    def open_section(section: Array, thread: int, rank: int) -> Any:
        """Prepare the section of block ``rank``, and find the place of a thread's columns.

        Returns:
            The thread and rank; index of the thread's first g in its owner's section; address of
            this section; address of the value in a neighbouring section that the thread's h is
            next to; address of that section. The last two are 0 where there is none, and all
            addresses are 0 in a cluster of one block.
        """
        for i in range(thread, GROUPS * depth * cluster, threads):
            section[i * row + before] = np.float32(0)
            section[i * row + after] = np.float32(0)
        owner = np.uint32(thread // np.uint32(lanes))
        lane = np.uint32(thread % np.uint32(lanes))
        channel = np.uint32(rank * np.uint32(row))
        index = np.uint32(channel + lane * np.uint32(run))
        target = beside = neighbour = np.uint32(0)
        if cluster > 1:
            base = shared_address(section)
            if thread == 0:
                for j in range(GROUPS):
                    mbarrier_init(np.uint32(base + np.uint32(mbarriers + 8 * j)), np.uint32(1))
            cluster_arrive()
            cluster_wait()
            cluster_arrive_relaxed()  # awaited by the first exchange
            target = remote_address(base, owner)
            if lane == 0 and owner > 0:
                neighbour = remote_address(base, np.uint32(owner - np.uint32(1)))
                beside = np.uint32(neighbour + np.uint32(4) * np.uint32(channel + after))
            if lane == lanes - 1 and owner < cluster - 1:
                neighbour = remote_address(base, np.uint32(owner + np.uint32(1)))
                beside = np.uint32(neighbour + np.uint32(4) * np.uint32(channel + before))
        return thread, rank, index, target, beside, neighbour

    @device_function
    def send(section: Array, place: Any, number: int, k: int, g: Array, h: Array) -> None:
        """Send a thread's g, and h of the line before, of line k of a group."""
        thread, _, index, target, beside, neighbour = place
        slot = np.uint32(number % np.uint32(GROUPS))
        line = np.uint32(slot * np.uint32(group_size) + np.uint32(k * line_size))
        if cluster == 1:
            for j in range(run):
                section[line + index + j] = g[j]
                section[line + index + first + j] = h[j]
        else:
            mbarrier = np.uint32(np.uint32(mbarriers) + slot * np.uint32(8))
            address = np.uint32(target + np.uint32(4) * np.uint32(line + index))
            arrived = np.uint32(target + mbarrier)
            for j in range(0, pairs, 2):
                of_g = np.uint32(address + np.uint32(4 * j))
                of_h = np.uint32(of_g + np.uint32(4 * first))
                store_remote_pair(of_g, g[j], g[j + 1], arrived)
                store_remote_pair(of_h, h[j], h[j + 1], arrived)
            for j in range(pairs, run):
                of_g = np.uint32(address + np.uint32(4 * j))
                of_h = np.uint32(of_g + np.uint32(4 * first))
                store_remote_if(of_g, g[j], arrived, np.uint32(1))
                store_remote_if(of_h, h[j], arrived, np.uint32(1))
            edge = h[0] if np.uint32(thread % np.uint32(lanes)) == 0 else h[run - 1]
            of_edge = np.uint32(beside + np.uint32(4) * line)
            store_remote_if(of_edge, edge, np.uint32(neighbour + mbarrier), neighbour)

    @device_function
    def add_up(
        section: Array, place: Any, number: int, rows: int, origin: int,
        grad_wl: Array, grad_wm: Array, grad_wr: Array,
    ) -> None:  # fmt: skip
        """Wait for a group, sum it over the channels, and write the gradients of the weights."""
        thread, rank = place[0], place[1]
        start = np.uint32(number * np.uint32(depth))
        lines = min(np.uint32(depth), np.uint32(rows - start))
        slot = np.uint32(number % np.uint32(GROUPS))
        if cluster > 1:
            mbarrier = np.uint32(shared_address(section) + np.uint32(mbarriers))
            mbarrier = np.uint32(mbarrier + slot * np.uint32(8))
            if thread == 0:
                sides = np.uint32(1) if rank == 0 or rank == cluster - 1 else np.uint32(2)
                expected = np.uint32(np.uint32(line_bytes) + sides * np.uint32(side_bytes))
                mbarrier_expect(mbarrier, np.uint32(lines * expected))
            uses = np.uint32(number // np.uint32(GROUPS))  # of this slot, before
            mbarrier_wait(mbarrier, np.uint32(uses & np.uint32(1)))
            cuda.syncwarp()  # its lanes leave the wait one by one; the barrier needs whole warps
        for q in range(passes):
            item = np.uint32(thread + np.uint32(q * threads))
            line = np.uint32(item // np.uint32(owned))
            column = np.uint32(item % np.uint32(owned))
            p = np.uint32(rank * np.uint32(owned) + column)
            if line < lines and p < columns:
                index = np.uint32(slot * np.uint32(group_size) + line * np.uint32(line_size))
                index = np.uint32(index + column)
                left = middle = right = np.float32(0)
                for channel in range(cluster):
                    of_g = np.uint32(index + np.uint32(channel * row))
                    gradient = section[of_g]
                    left += gradient * section[of_g + before]
                    middle += gradient * section[of_g + first]
                    right += gradient * section[of_g + (first + 1)]
                element = move(origin, np.int64(start + line) * stride + np.int64(p))
                grad_wl[element] = narrow(left)
                grad_wm[element] = narrow(middle)
                grad_wr[element] = narrow(right)

    @device_function
    def exchange(
        section: Array, place: Any, number: int, rows: int, origin: int,
        grad_wl: Array, grad_wm: Array, grad_wr: Array,
    ) -> None:  # fmt: skip
        """After a group has been sent: sum the group before it."""
        if cluster > 1:
            cluster_wait()  # all blocks have summed the group two before this one
        if number > 0:
            last = np.uint32(number - np.uint32(1))
            add_up(section, place, last, rows, origin, grad_wl, grad_wm, grad_wr)
        if cluster > 1:
            cluster_arrive_relaxed()  # all that was read is in sums that have been stored

    @device_function
    def finish(
        section: Array, place: Any, number: int, rows: int, origin: int,
        grad_wl: Array, grad_wm: Array, grad_wr: Array,
    ) -> None:  # fmt: skip
        """Sum the groups that remain: the last two, of which the last may have fewer lines.

        No block ends while its section is used: it waits for everything that is sent to it.
        """
        if np.uint32(rows % np.uint32(depth)) > 0:
            exchange(section, place, number, rows, origin, grad_wl, grad_wm, grad_wr)
        if cluster > 1:
            cluster_wait()
        last = np.uint32(np.uint32(rows - np.uint32(1)) // np.uint32(depth))
        add_up(section, place, last, rows, origin, grad_wl, grad_wm, grad_wr)

    return open_section, send, exchange, finish
