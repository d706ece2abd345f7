"""The workload of a whole network of a different library, with one attention or another.

Its float64 copy at full size would not fit in memory, so the gate has two steps. At a small size
the network is compared with its copy in float64. At full size the output of the call is compared
with that of the network called without torch.compile.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from gspn2bench.baselines.compile_setup import compile_static
from gspn2bench.baselines.modules import reference
from gspn2bench.baselines.modules.networks import NETWORKS, Network, parameters
from gspn2bench.kernels.contract import Call
from gspn2bench.problem import ITEM_BYTES
from gspn2bench.workload.gate import GateResult, judge_errors
from gspn2bench.workload.modules import ModuleRun, Tensors

TOLERANCE: Final = {"float32": 1e-3, "float16": 1.6e-2, "bfloat16": 1.28e-1}
"""Largest error allowed, relative to the largest element of the reference.

For the 16-bit types it is 32 roundings to storage: a network rounds hundreds of times, and
independent errors add as the root of their number.
"""


@dataclass(frozen=True)
class NetworkRun(ModuleRun):
    """A case run by a network.

    Args:
        case: its part is one of ``NETWORKS``.
        module: builds the network with its attention.
    """

    @cached_property
    def compulsory_bytes(self) -> int:
        """Bytes of input, output and parameters, and for train of their gradients, each once."""
        elements = self.elements + torch.Size(self._output_shape).numel()
        return elements * ITEM_BYTES[self.case.dtype] * (2 if self.training else 1)

    @property
    def elements(self) -> int:
        """Elements of the input and of the parameters."""
        case, attention = self.case, self.module.attention
        assert attention is not None
        count = parameters(case.part, attention, case.height, case.proxy)
        return count + torch.Size(self._shape).numel()

    def bind(self, operands: Tensors) -> Call:
        """Set up the call, which stores its output, and in training gradients, in ``operands``."""
        network = self._modules[str(operands.x.device.type)]
        run = compile_static(network) if self.module.compiled else network
        forward = partial(self._network.call, run)
        if not self.training:

            def call() -> None:
                with torch.no_grad():
                    operands.y = forward(operands.x, False)

            return call

        names = self._gradient_names(network)

        def train() -> None:
            x = operands.x.detach().requires_grad_()
            y = forward(x, False)
            inputs = [x, *network.parameters()]
            grads = torch.autograd.grad(y, inputs, operands.grad_y, allow_unused=True)
            operands.y = y.detach()
            pairs = zip(names, grads, strict=True)
            operands.grads = {name: gradient for name, gradient in pairs if gradient is not None}

        return train

    def compare(self, operands: Tensors) -> GateResult:
        """Compare as the module's docstring says; in training also the gradient of the input."""
        tolerance = TOLERANCE[self.case.dtype]
        if operands.y is None:
            return GateResult(False, None, tolerance, 0, "y: nothing was computed")
        tensors = {"y": operands.y} | dict(operands.grads)
        if self.training and "x" not in tensors:
            return GateResult(False, None, tolerance, 0, "x: nothing was computed")
        return judge_errors(tensors, self._errors(operands), tolerance)

    @property
    def _network(self) -> Network:
        return NETWORKS[self.case.part]

    @property
    def _shape(self) -> tuple[int, ...]:
        case = self.case
        return (case.batch, case.channels, case.height, case.width)

    @property
    def _output_shape(self) -> tuple[int, ...]:
        return self._network.output_shape(self._shape)

    def _build_module(self, device: str, seed: int) -> None:
        """Build the network on its device in its type; in float32 it may not fit."""
        if device in self._modules:
            return
        before = torch.get_default_dtype()
        with torch.random.fork_rng(), torch.device(device):
            torch.manual_seed(seed)
            torch.set_default_dtype(getattr(torch, self.case.dtype))
            try:
                network = self.module.build[self.case.part](self.case)
            finally:
                torch.set_default_dtype(before)
        self._modules[device] = network.train(self.training)

    def _errors(self, operands: Tensors) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield the errors at full size, then those at the small size."""
        network = self._modules[str(operands.x.device.type)]
        assert operands.y is not None
        with torch.no_grad():
            again = self._network.call(network, operands.x, False)
        yield 0, {"y": _relative_error(operands.y, again)}
        del again
        side = self._network.small
        small = operands.x[:1, :, :side, :side].contiguous()
        copied = reference.float64_copy(network)
        compare = self._small_train if self.training else self._small_forward
        yield self.case.channels, compare(network, copied, small)

    def _small_forward(self, network: nn.Module, copied: nn.Module, x: Tensor) -> dict[str, float]:
        """Error of the output at the small size."""
        with torch.no_grad():
            y = self._network.call(network, x, True)
            expected = self._network.call(copied, x.double(), True)
        return {"y at the small size": _relative_error(y, expected)}

    def _small_train(self, network: nn.Module, copied: nn.Module, x: Tensor) -> dict[str, float]:
        """Errors of the output and of the gradient of the input at the small size."""
        results = []
        call: Callable[[Any, Tensor, bool], Tensor] = self._network.call
        for model, one in ((network, x), (copied, x.double())):
            leaf = one.detach().requires_grad_()
            y = call(model, leaf, True)
            weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y)
            (gradient,) = torch.autograd.grad(y, leaf, weights)
            results.append((y.detach(), gradient))
        (y, gradient), (expected, expected_gradient) = results
        return {
            "y at the small size": _relative_error(y, expected),
            "x at the small size": _relative_error(gradient, expected_gradient),
        }


def _relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest error, relative to the largest expected element."""
    difference = (actual.double() - expected.double()).abs().max()
    return 0.0 if difference == 0 else float(difference / expected.double().abs().max())
