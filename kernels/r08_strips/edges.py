"""The edges of strips: what a warp sends to the warps beside it, in its own or in another block.

A warp computes a halo on either side of its strip as well. With every line one more column of a
halo is wrong, because its outer neighbour is not known. After as many lines as a halo has columns,
the whole halo is wrong. Then each warp sends the outer columns of its own strip to its neighbours,
into their shared memory, and takes what they have sent.

A warp has two mailboxes and uses them in turn. A neighbour writes to a mailbox again two exchanges
later. Before that it has received what this warp sent in between, after reading the mailbox.

Between blocks, the stores are asynchronous, and an mbarrier of the mailbox counts their bytes. In a
grid without clusters the neighbours arrive at it.
"""

from typing import Any, Final

import numpy as np

from gspn2bench.kernels import mbarrier
from gspn2bench.kernels.jit import Array, device_function
from gspn2bench.kernels.r08_strips.configuration import HALO_LANES, OWN_LANES, Config
from gspn2bench.kernels.warp import sync_warp

FIRST_OWN: Final = HALO_LANES
FIRST_RIGHT: Final = HALO_LANES + OWN_LANES // 2
AFTER_OWN: Final = HALO_LANES + OWN_LANES


def build_init_mailboxes(config: Config) -> Any:
    """The device function ``init_mailboxes(barriers)``, for one thread of the block."""
    warps, first_barrier, one_block = config.warps, 2 * config.groups, config.blocks == 1

    @device_function
    def init_mailboxes(barriers: Array) -> None:
        for i in range(2 * warps):
            at_an_end = i // 2 == 0 or i // 2 == warps - 1
            arrivals = 2 if one_block and not at_an_end else 1
            mbarrier.init(barriers, first_barrier + i, arrivals)

    return init_mailboxes


def build_exchange(config: Config) -> tuple[Any, Any]:
    """The device functions ``send`` and ``receive`` of an exchange.

    (edges, barriers, values, number, rank, warp, lane): ``values`` are the columns of a lane, which
    ``receive`` replaces by those of the neighbours if the lane is in a halo. ``number`` counts
    exchanges from 0.
    """
    warps, strips, run, halo = config.warps, config.strips, config.run, config.halo
    first_barrier, one_block = 2 * config.groups, config.blocks == 1
    halo_bytes = 4 * halo

    @device_function
    def send_columns(
        edges: Array, barriers: Array, values: Array, strip: int, box: int, lane: int
    ) -> None:
        """Send a lane's columns to the neighbour that has them in its halo."""
        to_left = strip > 0 and lane >= FIRST_OWN and lane < FIRST_RIGHT
        to_right = strip + 1 < strips and lane >= FIRST_RIGHT and lane < AFTER_OWN
        if to_left or to_right:
            target = np.uint32(strip - np.uint32(1) if to_left else strip + np.uint32(1))
            # this strip is to the right of the left neighbour
            place = halo + (lane - FIRST_OWN) * run if to_left else (lane - FIRST_RIGHT) * run
            mailbox = np.uint32(np.uint32(target % np.uint32(warps)) * np.uint32(2) + box)
            index = mailbox * 2 * halo + place
            if one_block:
                for j in range(run):
                    edges[index + j] = values[j]
            else:
                rank = np.uint32(target // np.uint32(warps))
                barrier = first_barrier + mailbox
                for j in range(0, run, 2):
                    mbarrier.send_pair(
                        edges, index + j, values[j], values[j + 1], barriers, barrier, rank
                    )

    @device_function
    def announce(barriers: Array, strip: int, warp: int, box: int, lane: int) -> None:
        """Let the neighbours know, or tell the mailbox how many bytes to wait for."""
        barrier = first_barrier + warp * 2 + box
        if one_block:
            sync_warp()  # every lane has stored
            if lane == 0 and strip > 0:
                mbarrier.arrive(barriers, barrier - 2)
            if lane == 0 and strip + 1 < strips:
                mbarrier.arrive(barriers, barrier + 2)
        elif lane == 0:
            halos = np.uint32(strip > 0) + np.uint32(strip + 1 < strips)
            mbarrier.expect(barriers, barrier, halos * np.uint32(halo_bytes))

    @device_function
    def send(
        edges: Array, barriers: Array, values: Array, number: int, rank: int, warp: int, lane: int
    ) -> None:
        strip = np.uint32(rank * np.uint32(warps) + warp)
        box = np.uint32(number & np.uint32(1))
        send_columns(edges, barriers, values, strip, box, lane)
        announce(barriers, strip, warp, box, lane)

    @device_function
    def receive(
        edges: Array, barriers: Array, values: Array, number: int, rank: int, warp: int, lane: int
    ) -> None:
        strip = np.uint32(rank * np.uint32(warps) + warp)
        box = np.uint32(number & np.uint32(1))
        mailbox = warp * np.uint32(2) + box
        parity = (number >> np.uint32(1)) & np.uint32(1)
        mbarrier.poll_cluster(barriers, first_barrier + mailbox, parity)
        sync_warp()
        index = mailbox * np.uint32(2 * halo)
        if strip > 0 and lane < FIRST_OWN:
            for j in range(run):
                values[j] = edges[index + lane * run + j]
        if strip + 1 < strips and lane >= AFTER_OWN:
            for j in range(run):
                values[j] = edges[index + halo + (lane - AFTER_OWN) * run + j]

    return send, receive
