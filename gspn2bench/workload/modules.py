"""What one call of a module does: a forward, or a forward and a backward, on images or tokens.

The module is made once for a case, from the seed, and is held to its own copy in float64
(``baselines.modules.reference``) on the same, rounded parameters and inputs.
"""

import time
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor, nn

from gspn2bench.baselines.compile_setup import compile_static
from gspn2bench.baselines.modules import reference
from gspn2bench.baselines.modules.contract import Module
from gspn2bench.cases.scenario import Case
from gspn2bench.kernels.contract import Call
from gspn2bench.nn.layout import Size, TokenMixer
from gspn2bench.problem import ITEM_BYTES
from gspn2bench.workload.base import Workload
from gspn2bench.workload.gate import GateResult, judge_errors

TOLERANCE: Final = {"float32": 1e-4, "float16": 4e-3, "bfloat16": 3.2e-2}
"""Largest error allowed, relative to the largest element of the reference.

Of the 16-bit types eight roundings to storage, 2**-11 and 2**-8 each: a module stores some ten
times in a row. float32 sums thousands of products.
"""
POSITIONS: Final = 64
"""Positions of an image that are compared where it has too many for all."""
COMPARED: Final = 4096
"""Positions up to which all are compared."""
SECONDS: Final = 1.0
CLASSES: Final = 1000


@dataclass
class Tensors:
    """What a call works on.

    Args:
        x: tokens, (N, H * W, C), or images, (N, C, H, W).
        grad_y: gradient of the output; None where there is no backward.
        y: the output of the last call.
        grads: gradients by the name of what they are of, "x" among them; of the last call.
    """

    x: Tensor
    grad_y: Tensor | None
    y: Tensor | None = None
    grads: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ModuleRun(Workload[Tensors]):
    """A case of a module.

    Args:
        case: whose part is not "kernel".
        module: that runs it.
    """

    case: Case
    module: Module

    @property
    def key(self) -> Hashable:
        """Modules of a case can work on the same inputs."""
        return self.case

    @property
    def unsupported(self) -> str | None:
        """Why the module can't run the case; None if it can."""
        return self.module.supports(self.case)

    @property
    def launches(self) -> int | None:
        """Not declared: torch's libraries choose their kernels."""
        return None

    @property
    def traffic(self) -> int:
        """Bytes with each input, output and parameter once."""
        return self.compulsory_bytes

    @cached_property
    def compulsory_bytes(self) -> int:
        """Input, output and parameters once; train moves as much again for their gradients."""
        with torch.device("meta"):
            module = self.module.build[self.case.part](self.case)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        moved = _count(self._shape) + _count(self._output_shape) + parameters
        return moved * ITEM_BYTES[self.case.dtype] * (2 if self.training else 1)

    @property
    def steps(self) -> int:
        """Lines that depend on each other are no matter of every module."""
        return 0

    @property
    def elements(self) -> int:
        """Elements of the input."""
        return _count(self._shape)

    @property
    def columns(self) -> Mapping[str, Any]:
        """What is run."""
        case = self.case
        return {
            "channels": case.channels,
            "direction": "all",
            "chunk": max(case.height, case.width),
            "weights": "module",
            "part": case.part,
            "proxy": case.proxy,
        }

    @property
    def training(self) -> bool:
        """Whether a call runs backward too."""
        return self.case.phase == "train"

    def operands(self, device: str, seed: int) -> Tensors:
        """Standard normal inputs; the module is made here too, if it is not yet."""
        generator = torch.Generator(device).manual_seed(seed)
        dtype = getattr(torch, self.case.dtype)

        def normal(shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=generator, device=device).to(dtype)

        self._make(device, seed)
        x = normal(self._shape)
        return Tensors(x, normal(self._output_shape) if self.training else None)

    def clone(self, operands: Tensors) -> Tensors:
        """The same values in memory of their own."""
        grad_y = operands.grad_y
        return Tensors(operands.x.clone(), None if grad_y is None else grad_y.clone())

    def bind(self, operands: Tensors) -> Call:
        """The call, which leaves its output and gradients in ``operands``."""
        module = self._made[str(operands.x.device.type)]
        run = compile_static(module) if self.module.compiled else module
        arguments = self._arguments(module)
        if not self.training:

            def forward() -> None:
                with torch.no_grad():
                    operands.y = run(operands.x, *arguments)

            return forward

        names = self._differentiated(module)

        def train() -> None:
            x = operands.x.detach().requires_grad_()
            y = run(x, *arguments)
            grads = torch.autograd.grad(y, [x, *module.parameters()], operands.grad_y)
            operands.y = y.detach()
            operands.grads = dict(zip(names, grads, strict=True))

        return train

    def check(self, operands: Tensors, call: Call) -> GateResult:
        """The output, and all gradients, against the module in float64.

        Images are compared one by one: first and last always, all of them if that takes under a
        second, and always for gradients, since a parameter's is a sum over the images.
        """
        tolerance = TOLERANCE[self.case.dtype]
        operands.y, operands.grads = None, {}
        call()
        found: dict[str, Tensor | None] = {"y": operands.y}
        if self.training:
            module = self._made[str(operands.x.device.type)]
            found |= {name: operands.grads.get(name) for name in self._differentiated(module)}
        for name, tensor in found.items():
            if tensor is None:
                return GateResult(False, None, tolerance, 0, f"{name}: nothing was computed")
        computed = {name: tensor for name, tensor in found.items() if tensor is not None}
        errors = self._gradients(operands) if self.training else self._outputs(operands)
        return judge_errors(computed, errors, tolerance)

    def inputs(self, operands: Tensors) -> Mapping[str, list[Tensor]]:
        """The input, the gradient that comes in, and the parameters."""
        module = self._made[str(operands.x.device.type)]
        given = {"x": [operands.x], "parameters": [p.detach() for p in module.parameters()]}
        return given if operands.grad_y is None else given | {"grad_y": [operands.grad_y]}

    def vary(self, operands: Tensors) -> None:
        """Other inputs: an image that is another's output would show."""
        operands.x.mul_(-0.5)
        if operands.grad_y is not None:
            operands.grad_y.mul_(-0.5)

    @property
    def _shape(self) -> tuple[int, ...]:
        case = self.case
        if case.part == "model":
            return (case.batch, case.channels, case.height, case.width)
        return (case.batch, case.height * case.width, case.channels)

    @property
    def _output_shape(self) -> tuple[int, ...]:
        return (self.case.batch, CLASSES) if self.case.part == "model" else self._shape

    @cached_property
    def _made(self) -> dict[str, nn.Module]:
        """The module by the kind of device it is on."""
        return {}

    def _differentiated(self, module: nn.Module) -> list[str]:
        """Names of what training has gradients of."""
        return ["x", *(name for name, _ in module.named_parameters())]

    def _arguments(self, module: nn.Module) -> tuple[Size, ...]:
        """What a module takes beside x."""
        return ((self.case.height, self.case.width),) if isinstance(module, TokenMixer) else ()

    def _make(self, device: str, seed: int) -> None:
        if device in self._made:
            return
        with torch.random.fork_rng(), torch.device("cpu"):
            torch.manual_seed(seed)
            module = self.module.build[self.case.part](self.case)
        self._made[device] = module.to(device, getattr(torch, self.case.dtype))

    def _outputs(self, operands: Tensors) -> Iterator[tuple[int, dict[str, float]]]:
        """The error of an image's output, image by image, with the slices that it counts for."""
        module = reference.exact(self._made[str(operands.x.device.type)])
        started = time.perf_counter()
        assert operands.y is not None
        for done, image in enumerate(_first_and_last(self.case.batch), 1):
            one = slice(image, image + 1)
            with torch.no_grad():
                expected, at = self._expected(module, operands.x[one])
            found = operands.y[one] if at is None else operands.y[one][:, at]
            yield self.case.channels, {"y": _error(found.double(), expected)}
            if done >= 2 and time.perf_counter() - started > SECONDS:
                return

    def _expected(self, module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The reference of one image, and at which positions; None for all."""
        x = x.double()
        if not isinstance(module, TokenMixer):
            given: Tensor = module(x)
            return given, None
        tokens = x.shape[1]
        count = tokens if tokens <= COMPARED else POSITIONS
        at = torch.linspace(0, tokens - 1, count, device=x.device, dtype=torch.float64).long()
        return reference.at(module, x, (self.case.height, self.case.width), at), at

    def _gradients(self, operands: Tensors) -> Iterator[tuple[int, dict[str, float]]]:
        """Errors as ``_outputs`` gives them, of every image, then those of all gradients."""
        module = reference.exact(self._made[str(operands.x.device.type)])
        assert operands.y is not None
        assert operands.grad_y is not None
        grad_x = torch.empty_like(operands.x, dtype=torch.float64)
        for image in range(self.case.batch):
            one = slice(image, image + 1)
            x = operands.x[one].double().requires_grad_()
            y = reference.whole(module, x, *self._arguments(module))
            yield self.case.channels, {"y": _error(operands.y[one].double(), y.detach())}
            torch.autograd.backward(y, operands.grad_y[one].double())
            assert x.grad is not None
            grad_x[one] = x.grad
        expected = {"x": grad_x} | {
            name: parameter.grad
            for name, parameter in module.named_parameters()
            if parameter.grad is not None
        }
        yield 0, {name: _error(operands.grads[name].double(), expected[name]) for name in expected}


def _error(found: Tensor, expected: Tensor) -> float:
    """Largest error, relative to the largest element expected."""
    difference, scale = (found - expected).abs().max(), expected.abs().max()
    return 0.0 if difference == 0 else float(difference / scale)


def _first_and_last(count: int) -> list[int]:
    """All numbers below count, the first and the last before the others."""
    return list(dict.fromkeys([0, count - 1, *range(count)]))


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
