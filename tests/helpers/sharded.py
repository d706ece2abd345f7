"""A process of a sharded model: loads modules from the meta device with FSDP2, and checks them.

Run as ``python sharded.py RANK FILE``, twice, with the ranks 0 and 1 and one new file.
"""

import sys
import warnings
from collections.abc import Callable

import torch
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from gspn2bench.nn import GSPN1Attention, GSPN2Attention

# (module, the parts that are sharded by themselves)
CASES: list[tuple[Callable[[], nn.Module], list[str]]] = [
    (lambda: GSPN2Attention(6, 2), []),
    (lambda: GSPN2Attention(6, 2), ["scans.merge", "scans", "up"]),
    (lambda: GSPN1Attention(6), ["reduce"]),
]


def check(build: Callable[[], nn.Module], parts: list[str], rank: int) -> None:
    """Shard, load and run a module; compare with the same module on one process."""
    torch.manual_seed(0)
    module, image = build(), torch.randn(2, 6, 4, 5)
    expected = module(image)
    expected.square().sum().backward()
    with torch.device("meta"):
        sharded = build()
    mesh = init_device_mesh("cpu", (2,))
    for part in parts:
        fully_shard(sharded.get_submodule(part), mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    sharded.to_empty(device="cpu")
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(sharded, module.state_dict() if rank == 0 else {}, options=options)
    output = sharded(image)
    torch.testing.assert_close(output, expected)
    output.square().sum().backward()
    grads = dict(module.named_parameters())
    for name, parameter in sharded.named_parameters():
        torch.testing.assert_close(parameter.grad.full_tensor(), grads[name].grad)
    # Inference around a step: gathered parameters reuse their memory, and no version is counted.
    pairs = [(p, p.grad) for each in (module, sharded) for p in each.parameters()]
    module.eval()
    sharded.eval()
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(sharded(image), module(image))
            for part in sharded.modules():
                if isinstance(part, FSDPModule):
                    part.reshard()
            for parameter, grad in pairs:
                parameter.add_(grad, alpha=-0.01)


def main() -> None:
    """Run all cases as one rank."""
    rank, file = int(sys.argv[1]), sys.argv[2]
    warnings.simplefilter("ignore")  # the output of a linear layer is a view: torch warns
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    for build, parts in CASES:
        check(build, parts, rank)
    distributed.destroy_process_group()
    print(f"rank {rank}: {len(CASES)} modules loaded")


if __name__ == "__main__":
    main()
