"""Parameters: loaded from the meta device, sharded, saved by transformers, converted, reset."""

import copy
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gspn2bench.nn import GSPN1Attention, GSPN2Attention, GSPN2Backbone, GSPNBlock, SoftmaxAttention
from gspn2bench.nn.attention import FOLDED
from gspn2bench.nn.backbone import Config
from gspn2bench.nn.softmax import TorchAttention

BUILDS: dict[str, Callable[[], nn.Module]] = {
    "gspn1": lambda: GSPN1Attention(6),
    "gspn2, folded": lambda: GSPN2Attention(6, 2),
    "gspn2": lambda: GSPN2Attention(6, FOLDED + 1),
    "softmax": lambda: SoftmaxAttention(6, 2),
    "torch": lambda: TorchAttention(6, 2),
    "block": lambda: GSPNBlock(GSPN2Attention(6, 3)),
    "backbone": lambda: GSPN2Backbone(Config(8, (1, 1), mlp_ratio=2), classes=5, in_channels=6),
}
builds = pytest.mark.parametrize("name", BUILDS)
IMAGE = (2, 6, 9, 7)


def poison(module: nn.Module) -> nn.Module:
    """What to_empty leaves: any numbers, here NaN, in every parameter and buffer."""
    with torch.no_grad():
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            tensor.fill_(torch.nan)
    return module


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return BUILDS[name]()


# From the meta device.


@builds
@pytest.mark.parametrize("assign", [False, True])
def test_a_module_from_the_meta_device_loads(name: str, assign: bool) -> None:
    torch.manual_seed(0)
    module, image = BUILDS[name](), torch.randn(IMAGE)
    loaded = on_meta(name)
    if not assign:
        poison(loaded.to_empty(device="cpu"))
    loaded.load_state_dict(module.state_dict(), strict=True, assign=assign)
    assert torch.equal(loaded(image), module(image))


@builds
def test_every_tensor_of_a_module_is_in_its_state(name: str) -> None:
    module = BUILDS[name]()
    own = {name for name, _ in itertools.chain(module.named_parameters(), module.named_buffers())}
    assert own == set(module.state_dict())


@builds
def test_reset_parameters_draws_those_of_a_new_module(name: str) -> None:
    module = poison(on_meta(name).to_empty(device="cpu"))
    torch.manual_seed(0)
    fresh = BUILDS[name]().state_dict()
    torch.manual_seed(0)
    module.reset_parameters()  # type: ignore[operator]
    for key, value in module.state_dict().items():
        assert torch.equal(value, fresh[key]), key


# Version 1: lam and u had their 1 in the bias.


def version_1(module: nn.Module) -> dict[str, Tensor]:
    state = {}
    for key, value in module.state_dict().items():
        old = key.replace("lam_delta", "lam").replace("u_delta", "u")
        state[old] = value + 1 if old != key and key.endswith("bias") else value.clone()
    return state


@pytest.mark.parametrize("name", ["gspn1", "gspn2, folded", "gspn2", "block", "backbone"])
def test_a_state_of_version_1_loads(name: str) -> None:
    torch.manual_seed(0)
    module, image = BUILDS[name]().double(), torch.randn(IMAGE, dtype=torch.float64)
    state = version_1(module)
    kept = {key: value.clone() for key, value in state.items()}
    loaded = BUILDS[name]().double()
    loaded.load_state_dict(state, strict=True)
    torch.testing.assert_close(loaded(image), module(image))
    assert state.keys() == kept.keys()
    assert all(torch.equal(state[key], kept[key]) for key in kept)


def test_a_state_of_both_versions_is_refused() -> None:
    module = GSPN2Attention(6)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*scans\.lam\.bias"):
        module.load_state_dict(module.state_dict() | version_1(module))


def test_a_state_without_lam_is_refused() -> None:
    module = GSPN2Attention(6)
    state = module.state_dict()
    del state["scans.lam_delta.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key.*scans\.lam_delta\.bias"):
        module.load_state_dict(state)


def test_a_module_can_be_copied() -> None:
    torch.manual_seed(0)
    module, image = GSPN2Attention(6), torch.randn(IMAGE)
    assert torch.equal(copy.deepcopy(module)(image), module(image))


# Initialization, as timm and transformers do it.


def initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@pytest.mark.parametrize("build", [lambda: GSPN1Attention(64), lambda: GSPN2Attention(64, 8)])
def test_small_weights_and_zero_biases_leave_a_module_alive(build: Any) -> None:
    torch.manual_seed(0)
    module, image = build().double(), torch.randn(1, 64, 16, 16, dtype=torch.float64)
    module.apply(initialize)
    output = module(image)
    assert output.std() > 1e-3  # 1e-4 and 3e-7 if lam and u started at 0
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.norm() > 0.01, name  # 0.002 and 2e-6 for scans.weights


# transformers.


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_model_of_transformers_is_saved_and_loaded(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", exc_type=ImportError)

    class ScanConfig(transformers.PretrainedConfig):  # type: ignore[name-defined,misc]
        model_type = "gspn2bench-test"

    class ScanModel(transformers.PreTrainedModel):  # type: ignore[name-defined,misc]
        config_class = ScanConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.block = GSPNBlock(GSPN2Attention(6, 2), mlp_ratio=2)
            self.gspn1 = GSPN1Attention(6)
            self.head = nn.Linear(6, 3)
            self.post_init()

        def _init_weights(self, module: nn.Module) -> None:
            initialize(module)

        def forward(self, image: Tensor) -> Tensor:
            mixed: Tensor = self.gspn1(self.block(image))
            scores: Tensor = self.head(mixed.mean((2, 3)))
            return scores

    torch.manual_seed(0)
    model, image = ScanModel(ScanConfig()).eval(), torch.randn(IMAGE)
    expected = model(image)
    assert expected.std() > 0
    model.save_pretrained(tmp_path)
    loaded, info = ScanModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(loaded.eval()(image), expected)


# FSDP2.


def test_a_module_from_the_meta_device_is_sharded_and_loaded(tmp_path: Path) -> None:
    """Two processes on a CPU; each checks the output and the gradients of its shards."""
    command = [
        sys.executable,
        "-P",
        str(Path(__file__).resolve().parents[1] / "helpers" / "sharded.py"),
    ]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "rendezvous")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for rank, process in enumerate(processes):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert output.splitlines()[-1] == f"rank {rank}: 3 modules loaded"
