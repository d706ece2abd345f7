"""The workload of a module: forward, or forward and backward, on images or tokens.

The module is built once per case from the seed. Its reference is its own copy in float64
(``baselines.modules.reference``), on the same rounded parameters and inputs.
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
from gspn2bench.workload.inputs import VARIED

TOLERANCE: Final = {"float32": 1e-4, "float16": 4e-3, "bfloat16": 3.2e-2}
"""Largest error allowed, relative to the largest element of the reference.

For the 16-bit types it is eight roundings to storage, 2**-11 and 2**-8 each, because a module
stores about ten tensors in sequence. float32 sums thousands of products.
"""
ALL_POSITIONS: Final = 4096
"""Up to this many positions of an image, all are compared."""
SAMPLED_POSITIONS: Final = 64
"""Positions compared in a larger image."""
COMPARE_SECONDS: Final = 1.0
"""After this time, no further images of a forward call are compared."""
CLASSES: Final = 1000


@dataclass
class Tensors:
    """The tensors of a call.

    Args:
        x: tokens, (N, H * W, C), or images, (N, C, H, W).
        grad_y: gradient of the output, with its shape; None without a backward.
        y: output of the last call.
        grads: gradients of the last call, by the name of the parameter, or "x".
    """

    x: Tensor
    grad_y: Tensor | None
    y: Tensor | None = None
    grads: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ModuleRun(Workload[Tensors]):
    """A case run by a module.

    Args:
        case: its part is not "kernel".
        module: runs the case.
    """

    case: Case
    module: Module

    @property
    def key(self) -> Hashable:
        """The case: all modules of one case share inputs."""
        return self.case

    @property
    def skip_reason(self) -> str | None:
        """Why the module cannot run the case; None if it can."""
        return self.module.unsupported_reason(self.case)

    @property
    def launches(self) -> int | None:
        """None: the libraries behind torch choose their kernels, so nothing is declared."""
        return None

    @property
    def traffic(self) -> int:
        """Bytes with each input, output and parameter moved once."""
        return self.compulsory_bytes

    @cached_property
    def compulsory_bytes(self) -> int:
        """Bytes of input, output and parameters, and for train of their gradients, each once."""
        with torch.device("meta"):
            module = self.module.build[self.case.part](self.case)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        elements = _count(self._shape) + _count(self._output_shape) + parameters
        return elements * ITEM_BYTES[self.case.dtype] * (2 if self.training else 1)

    @property
    def dependent_fmas(self) -> int:
        """0: not every module scans, so the floor of a module is its copy time or a launch."""
        return 0

    @property
    def elements(self) -> int:
        """Elements of the input."""
        return _count(self._shape)

    @property
    def columns(self) -> Mapping[str, Any]:
        """The fields of ``schema.Row`` that describe the case, by name."""
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
        """Whether a call also runs backward."""
        return self.case.phase == "train"

    def operands(self, device: str, seed: int) -> Tensors:
        """Make standard normal inputs, and build the module on this device if needed."""
        generator = torch.Generator(device).manual_seed(seed)
        dtype = getattr(torch, self.case.dtype)

        def normal(shape: tuple[int, ...]) -> Tensor:
            return torch.randn(shape, generator=generator, device=device).to(dtype)

        self._build_module(device, seed)
        x = normal(self._shape)
        return Tensors(x, normal(self._output_shape) if self.training else None)

    def clone(self, operands: Tensors) -> Tensors:
        """Copy the inputs to new memory; outputs are not copied."""
        grad_y = operands.grad_y
        return Tensors(operands.x.clone(), None if grad_y is None else grad_y.clone())

    def bind(self, operands: Tensors) -> Call:
        """Set up the call, which stores its output and gradients in ``operands``."""
        module = self._modules[str(operands.x.device.type)]
        run = compile_static(module) if self.module.compiled else module
        arguments = self._arguments(module)
        if not self.training:

            def forward() -> None:
                with torch.no_grad():
                    operands.y = run(operands.x, *arguments)

            return forward

        names = self._gradient_names(module)

        def train() -> None:
            x = operands.x.detach().requires_grad_()
            y = run(x, *arguments)
            grads = torch.autograd.grad(y, [x, *module.parameters()], operands.grad_y)
            operands.y = y.detach()
            operands.grads = dict(zip(names, grads, strict=True))

        return train

    def check(self, operands: Tensors, call: Call) -> GateResult:
        """Forget the results, run the call once, and compare: see ``compare``."""
        operands.y, operands.grads = None, {}
        call()
        return self.compare(operands)

    def compare(self, operands: Tensors) -> GateResult:
        """Compare the output, and all gradients of a training call, with the module in float64.

        Forward outputs are compared image by image, the first and last images first, for at most
        ``COMPARE_SECONDS``. Gradients always need all images, because the gradient of a parameter
        is a sum over the images.
        """
        tolerance = TOLERANCE[self.case.dtype]
        results: dict[str, Tensor | None] = {"y": operands.y}
        if self.training:
            module = self._modules[str(operands.x.device.type)]
            results |= {name: operands.grads.get(name) for name in self._gradient_names(module)}
        for name, tensor in results.items():
            if tensor is None:
                return GateResult(False, None, tolerance, 0, f"{name}: nothing was computed")
        tensors = {name: tensor for name, tensor in results.items() if tensor is not None}
        errors = self._gradient_errors(operands) if self.training else self._output_errors(operands)
        return judge_errors(tensors, errors, tolerance)

    def inputs(self, operands: Tensors) -> Mapping[str, list[Tensor]]:
        """The tensors that the call must not change: x, the parameters and grad_y."""
        module = self._modules[str(operands.x.device.type)]
        inputs = {"x": [operands.x], "parameters": [p.detach() for p in module.parameters()]}
        return inputs if operands.grad_y is None else inputs | {"grad_y": [operands.grad_y]}

    def vary(self, operands: Tensors, factor: float = VARIED) -> None:
        """Scale x and grad_y in place; stale outputs then fail the gate."""
        operands.x.mul_(factor)
        if operands.grad_y is not None:
            operands.grad_y.mul_(factor)

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
    def _modules(self) -> dict[str, nn.Module]:
        """The module, by the type of the device that it is on."""
        return {}

    def _gradient_names(self, module: nn.Module) -> list[str]:
        """Names of the tensors that a training call has gradients for."""
        return ["x", *(name for name, _ in module.named_parameters())]

    def _arguments(self, module: nn.Module) -> tuple[Size, ...]:
        """The arguments of a module after x."""
        return ((self.case.height, self.case.width),) if isinstance(module, TokenMixer) else ()

    def _build_module(self, device: str, seed: int) -> None:
        if device in self._modules:
            return
        with torch.random.fork_rng(), torch.device("cpu"):
            torch.manual_seed(seed)
            module = self.module.build[self.case.part](self.case)
        module.train(self.training)  # in eval mode GSPN-2 keeps its folded weights
        self._modules[device] = module.to(device, getattr(torch, self.case.dtype))

    def _output_errors(self, operands: Tensors) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield the slices of one image and the error of its output, image by image."""
        module = reference.float64_copy(self._modules[str(operands.x.device.type)])
        started = time.perf_counter()
        assert operands.y is not None
        for compared, image in enumerate(_ends_first(self.case.batch), 1):
            one = slice(image, image + 1)
            with torch.no_grad():
                expected, positions = self._expected_output(module, operands.x[one])
            y = operands.y[one] if positions is None else operands.y[one][:, positions]
            yield self.case.channels, {"y": _relative_error(y.double(), expected)}
            if compared >= 2 and time.perf_counter() - started > COMPARE_SECONDS:
                return

    def _expected_output(self, module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The reference output of one image, and its positions; None for all positions."""
        x = x.double()
        if not isinstance(module, TokenMixer):
            y: Tensor = module(x)
            return y, None
        tokens = x.shape[1]
        count = tokens if tokens <= ALL_POSITIONS else SAMPLED_POSITIONS
        spread = torch.linspace(0, tokens - 1, count, device=x.device, dtype=torch.float64)
        positions = spread.long()
        size = (self.case.height, self.case.width)
        return reference.output_at(module, x, size, positions), positions

    def _gradient_errors(self, operands: Tensors) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield the output errors of every image, then the errors of all gradients."""
        module = reference.float64_copy(self._modules[str(operands.x.device.type)])
        assert operands.y is not None
        assert operands.grad_y is not None
        grad_x = torch.empty_like(operands.x, dtype=torch.float64)
        for image in range(self.case.batch):
            one = slice(image, image + 1)
            x = operands.x[one].double().requires_grad_()
            grad_y = operands.grad_y[one].double()
            blocks = []
            for positions, block in reference.output_blocks(module, x, *self._arguments(module)):
                torch.autograd.backward(block, grad_y[:, positions])
                blocks.append(block.detach())
            y = torch.cat(blocks, dim=1)
            yield self.case.channels, {"y": _relative_error(operands.y[one].double(), y)}
            assert x.grad is not None
            grad_x[one] = x.grad
        expected = {"x": grad_x} | {
            name: parameter.grad
            for name, parameter in module.named_parameters()
            if parameter.grad is not None
        }
        yield (
            0,
            {
                name: _relative_error(operands.grads[name].double(), gradient)
                for name, gradient in expected.items()
            },
        )


def _relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest error, relative to the largest expected element."""
    difference, scale = (actual - expected).abs().max(), expected.abs().max()
    return 0.0 if difference == 0 else float(difference / scale)


def _ends_first(count: int) -> list[int]:
    """0 to count - 1, with the first and the last before the others."""
    return list(dict.fromkeys([0, count - 1, *range(count)]))


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
