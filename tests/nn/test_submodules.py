"""Submodules are honoured: hooks, adapters, parametrizations and quantized layers take effect."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from gspn2bench.nn import GSPN1Attention, GSPN2Attention
from gspn2bench.nn.attention import FOLDED

GSPN2 = ["down", "scans.lam_delta", "scans.u_delta", "scans.weights", "scans.merge", "up"]
GSPN1 = ["reduce", *GSPN2[1:5]]
BUILDS: dict[str, Callable[[], nn.Module]] = {
    "gspn1": lambda: GSPN1Attention(6),
    "gspn2, folded": lambda: GSPN2Attention(6, 2),
    "gspn2": lambda: GSPN2Attention(6, FOLDED + 1),
}
parts = pytest.mark.parametrize(
    ("build", "part"),
    [(build, part) for build in BUILDS for part in (GSPN1 if build == "gspn1" else GSPN2)],
)


class Scaled(nn.Module):
    """A wrapper of a layer, as adapters are: it changes the output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = 2 * self.layer(x)
        return output


class Subclass(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def seeded(build: str) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    module = BUILDS[build]().double()
    return module, torch.randn(2, 6, 4, 5, dtype=torch.float64)


def doubled(build: str, part: str) -> Tensor:
    """The output with the weight and bias of a layer doubled, which is its output doubled."""
    module, image = seeded(build)
    layer = module.get_submodule(part)
    with torch.no_grad():
        layer.weight.mul_(2)
        layer.bias.mul_(2)
    output: Tensor = module(image)
    return output


@parts
def test_a_wrapper_is_called(build: str, part: str) -> None:
    module, image = seeded(build)
    module.set_submodule(part, Scaled(module.get_submodule(part)))
    torch.testing.assert_close(module(image), doubled(build, part))


@parts
def test_a_subclass_is_called(build: str, part: str) -> None:
    module, image = seeded(build)
    module.get_submodule(part).__class__ = Subclass
    torch.testing.assert_close(module(image), doubled(build, part))


@parts
def test_forward_hooks_run(build: str, part: str) -> None:
    module, image = seeded(build)
    layer = module.get_submodule(part)
    seen = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    layer.register_forward_hook(lambda *arguments: 2 * arguments[-1])
    torch.testing.assert_close(module(image), doubled(build, part))
    assert seen == [(2, 20, layer.in_features)]  # tokens


@parts
def test_backward_hooks_run(build: str, part: str) -> None:
    module, image = seeded(build)
    seen = []
    module.get_submodule(part).register_full_backward_hook(lambda *_: seen.append(1))
    module(image.requires_grad_()).sum().backward()
    assert seen == [1]


@parts
def test_a_forward_of_the_instance_is_called(build: str, part: str) -> None:
    """As accelerate and offloading tools replace it."""
    module, image = seeded(build)
    layer = module.get_submodule(part)
    layer.forward = lambda x: 2 * nn.Linear.forward(layer, x)
    torch.testing.assert_close(module(image), doubled(build, part))


def test_a_forward_of_the_class_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """As some tools for adapters patch every nn.Linear."""
    called = []
    forward = nn.Linear.forward

    def counted(self: nn.Linear, x: Tensor) -> Tensor:
        called.append(self)
        return forward(self, x)

    module, image = seeded("gspn2, folded")
    monkeypatch.setattr(nn.Linear, "forward", counted)
    module(image)
    assert [layer in called for layer in map(module.get_submodule, GSPN2)] == [True] * 6


def test_hooks_for_all_modules_run() -> None:
    module, image = seeded("gspn2, folded")
    called: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_hook(lambda *args: called.append(args[0]))
    try:
        module(image)
    finally:
        handle.remove()
    assert set(called) == set(module.modules())


def test_the_four_scans_can_be_replaced() -> None:
    module, image = seeded("gspn2, folded")
    expected = module(image)
    seen = []
    module.scans.register_forward_hook(lambda *_: seen.append(1))
    torch.testing.assert_close(module(image), expected)
    assert seen == [1]

    class Zero(nn.Module):
        def forward(self, x: Tensor, features: Tensor, size: Any) -> Tensor:
            return 0 * x

    module.scans = Zero()
    torch.testing.assert_close(module(image), module.up.bias[:, None, None].expand(image.shape))


@parts
def test_parametrizations_are_trained(build: str, part: str) -> None:
    module, image = seeded(build)
    expected = module(image)
    layer = parametrizations.weight_norm(module.get_submodule(part))
    torch.testing.assert_close(module(image), expected)
    module(image).square().sum().backward()
    scale = layer.parametrizations.weight.original0
    assert scale.grad.any()
    parametrize.remove_parametrizations(layer, "weight")
    parametrize.register_parametrization(layer, "weight", Doubled())
    parametrize.register_parametrization(layer, "bias", Doubled())
    torch.testing.assert_close(module(image), doubled(build, part))


def test_pruning_has_an_effect() -> None:
    module, image = seeded("gspn2, folded")
    prune.l1_unstructured(module.up, "weight", amount=11)
    with torch.no_grad():
        module.up.bias.zero_()
    assert int(module(image).abs().sum((0, 2, 3)).count_nonzero()) == 1


@pytest.mark.parametrize("build", BUILDS)
def test_quantized_layers_are_called(build: str) -> None:
    module, image = seeded(build)
    expected = module(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is deprecated
        quantized: Any = torch.ao.quantization.quantize_dynamic(module.float(), {nn.Linear})
        result = quantized(image.float())
    assert type(quantized.scans.merge).__module__.startswith("torch.ao.nn.quantized")
    error = (result - expected).abs().max() / expected.abs().max()
    assert 1e-6 < error < 0.1


def test_a_weight_of_a_subclass_is_not_read() -> None:
    """As quantized and distributed weights are."""

    class Other(Tensor):
        pass

    module, image = seeded("gspn2, folded")
    expected = module(image)
    called = []
    module.up.weight = nn.Parameter(module.up.weight.detach().as_subclass(Other))
    forward = module.up.forward
    assert not module._folds()
    module.up.forward = lambda x: called.append(1) or forward(x)
    torch.testing.assert_close(module(image).as_subclass(Tensor), expected)
    assert called == [1]


def test_a_compiled_layer_is_called() -> None:
    module, image = seeded("gspn2, folded")
    expected = module(image)
    module.up.compile(backend="eager")
    assert not module._folds()
    torch.testing.assert_close(module(image), expected)


def test_plain_layers_are_folded() -> None:
    module, image = seeded("gspn2, folded")
    assert module._folds()
    assert torch.func.functional_call(module, dict(module.named_parameters()), (image,)).shape


# Adapters of peft.


def test_a_lora_adapter_trains_and_merges() -> None:
    peft = pytest.importorskip("peft", exc_type=ImportError)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), GSPN2Attention(6, 2, grid=(3, 4)), nn.Linear(6, 2))
    tokens, target = torch.randn(4, 12, 5), torch.randn(4, 12, 2)
    before = model(tokens).detach()
    names = [f"1.{name}" for name in GSPN2]
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=names, init_lora_weights=True)
    adapted = peft.get_peft_model(model, config)
    torch.testing.assert_close(adapted(tokens), before)
    optimizer = torch.optim.SGD(adapted.parameters(), lr=0.1)
    losses = []
    for _ in range(6):
        loss = (adapted(tokens) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    trained = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert {name.split(".lora_")[0].removeprefix("base_model.model.") for name in trained} == set(
        names
    )
    expected = adapted(tokens).detach()
    assert (expected - before).abs().max() > 1e-3
    merged = adapted.merge_and_unload()
    assert merged[1]._folds()
    torch.testing.assert_close(merged(tokens), expected, rtol=1e-4, atol=1e-5)
