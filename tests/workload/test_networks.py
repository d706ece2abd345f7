"""Whole networks in a sweep, on tiny configurations: shapes, the gate, and faults that it finds."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from gspn2bench.baselines.modules import MODULES, networks
from gspn2bench.cases import scenario, selection
from gspn2bench.cases.scenario import Case
from gspn2bench.measure.ceilings import Ceilings
from gspn2bench.nn import GSPN2Attention
from gspn2bench.run.preflight import Observations, TrialEndedError, preflight
from gspn2bench.run.trial import Settings, Trial
from gspn2bench.workload import NetworkRun, workload_of

TINY_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "transformer_layers_per_block": [1, 2],
    "attention_head_dim": [2, 4],
    "cross_attention_dim": 8,
    "use_linear_projection": True,
}
TINY_ENCODER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 16,
    "vision_use_head": False,
}
UNET = Case(2, 4, 12, 8, part="unet")
ENCODER = Case(2, 3, 96, 96, part="encoder")
NAMES = ("attention_sdpa", "gspn2", "identity")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(networks, "SDXL", TINY_UNET)
    monkeypatch.setattr(networks, "SIGLIP2_BASE", TINY_ENCODER)
    small = replace(networks.NETWORKS["unet"], small=8)
    monkeypatch.setitem(networks.NETWORKS, "unet", small)
    networks.parameters.cache_clear()
    yield
    networks.parameters.cache_clear()


def checked(case: Case, name: str, **changes: Any) -> Observations:
    work = NetworkRun(case, replace(MODULES[name], **changes))
    assert work.skip_reason is None
    observed = Observations()
    preflight(work, 0, observed)
    return observed


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", [UNET, ENCODER, replace(ENCODER, phase="train")])
def test_a_network_equals_its_float64_copy(case: Case, dtype: Any, name: str) -> None:
    observed = checked(replace(case, dtype=dtype), name)
    assert observed.gate_error is not None
    assert observed.gate_error > 0


@pytest.mark.parametrize("name", NAMES)
def test_networks_differ_in_their_attention_alone(name: str) -> None:
    counts = {}
    for case, modules in ((UNET, 8), (ENCODER, 2)):
        work = NetworkRun(case, MODULES[name])
        operands = work.operands("cpu", 0)
        model = work._modules["cpu"]
        kinds = [type(module).__name__ for module in model.modules()]
        scans = [module for module in model.modules() if isinstance(module, GSPN2Attention)]
        assert len(scans) == (modules if name == "gspn2" else 0)
        assert kinds.count("PassOn") == (modules if name == "identity" else 0)
        assert {scan.proxy for scan in scans} <= {4 if case is UNET else 2}
        counts[case.part] = sum(p.numel() for p in model.parameters())
        assert (
            networks.parameters(case.part, work.module.attention, case.height, None)
            == (  # type: ignore[arg-type]
                counts[case.part]
            )
        )
        work.bind(operands)()
        assert operands.y is not None
        assert tuple(operands.y.shape) == work._output_shape
        io = operands.x.numel() + operands.y.numel()
        assert work.compulsory_bytes == 4 * (counts[case.part] + io)


def test_a_case_sets_the_proxy() -> None:
    work = NetworkRun(replace(UNET, proxy=3), MODULES["gspn2"])
    work.operands("cpu", 0)
    scans = [m for m in work._modules["cpu"].modules() if isinstance(m, GSPN2Attention)]
    assert {scan.proxy for scan in scans} == {3}


def test_a_compiled_network_is_compared_with_the_same_network_not_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gspn2bench.workload import networks as workload

    checked(ENCODER, "gspn2", compiled=False)

    def wrong(model: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            output = model(*args, **options)
            output.last_hidden_state = 1.5 * output.last_hidden_state
            return output

        return call

    monkeypatch.setattr(workload, "compile_static", wrong)
    with pytest.raises(TrialEndedError, match=r"^y: error 5\.00e-01"):
        checked(ENCODER, "gspn2_compiled")


@pytest.mark.parametrize("case", [ENCODER, replace(ENCODER, phase="train")])
def test_outputs_are_compared_as_the_last_call_left_them(case: Case) -> None:
    """The check after the samples makes no call of its own."""
    work = NetworkRun(case, MODULES["identity"])
    operands = work.operands("cpu", 0)
    call = work.bind(operands)
    call()
    assert work.compare(operands).passed
    work.vary(operands)
    stale = work.compare(operands)
    assert not stale.passed
    assert (stale.reason or "").startswith("y: error")
    call()
    assert work.compare(operands).passed


def test_an_error_at_the_small_size_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan that is wrong in the same way in each call differs from the reference in float64."""
    original = GSPN2Attention.mix

    def wrong(self: Any, tokens: torch.Tensor, size: Any) -> torch.Tensor:
        mixed = original(self, tokens, size)
        return mixed if tokens.dtype == torch.float64 else 2 * mixed

    monkeypatch.setattr(GSPN2Attention, "mix", wrong)
    with pytest.raises(TrialEndedError, match=r"^y at the small size: error"):
        checked(ENCODER, "gspn2")


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (replace(UNET, channels=3), "channels: 3, expected 4 for part unet"),
        (replace(UNET, height=6), "size: 6 x 8, expected multiples of 4"),
        (replace(ENCODER, height=64), "size: 64 x 96, expected a square for part encoder"),
    ],
)
def test_what_a_network_can_not_run(case: Case, reason: str) -> None:
    for name in NAMES:
        assert workload_of(case, MODULES[name]).skip_reason == reason


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "find_spec", lambda name: None)
    reason = workload_of(UNET, MODULES["identity"]).skip_reason
    assert reason == "diffusers is missing: pip install '.[models]'"


def test_softmax_attention_of_16k_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name, skipped in (("attention_sdpa", [2048]), ("gspn2", []), ("identity", [])):
        cases = selection.cases(scenario.load("sdxl_unet"))
        found = [c.height for c in cases if workload_of(c, MODULES[name]).skip_reason]
        assert found == skipped
    case = Case(1, 4, 128, 128, part="unet")
    assert networks._attentions_of_levels() == [0, 10, 60]
    expected = 4 * (10 * 4096**2 * 640 + 60 * 1024**2 * 1280)
    assert networks.softmax_operations(case) == expected
    for case in selection.cases(scenario.load("vit")):
        assert workload_of(case, MODULES["attention_sdpa"]).skip_reason is None


def test_a_network_of_full_size_is_not_simulated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would take hours on a CPU."""
    monkeypatch.undo()
    case = Case(1, 4, 128, 128, "bfloat16", part="unet")
    trial = Trial(case, MODULES["identity"], Settings("fixture"), Ceilings())
    monkeypatch.setattr("gspn2bench.run.trial.free_bytes", lambda: 2**40)
    monkeypatch.setattr("gspn2bench.kernels.jit.SIMULATED", True)
    with pytest.raises(TrialEndedError, match=r"simulator: .* elements, limit .*; needs a GPU"):
        trial.preflight()
