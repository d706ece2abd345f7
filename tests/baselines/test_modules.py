"""Modules in a sweep: compared with themselves in float64, and run on the parts they build."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from typer.testing import CliRunner

from gspn2bench import registry
from gspn2bench.analysis import frame
from gspn2bench.app import app
from gspn2bench.baselines.modules import MODULES, reference
from gspn2bench.cases import scenario, selection
from gspn2bench.cases.axes import parse_axis
from gspn2bench.cases.scenario import Case
from gspn2bench.errors import UsageError
from gspn2bench.kernels.contract import Call
from gspn2bench.kernels.jit import SIMULATED
from gspn2bench.nn import GSPN2Attention, GSPNBlock, attention
from gspn2bench.nn.softmax import SoftmaxAttention, TorchAttention
from gspn2bench.ops.library import scan_backward
from gspn2bench.problem import PARTS, Part
from gspn2bench.records.schema import Published, Row
from gspn2bench.records.store import Run, read_run
from gspn2bench.run.preflight import Observations, TrialEndedError, preflight
from gspn2bench.workload.modules import ModuleRun, Tensors

from ..helpers.report_fixtures import real_run

HEAD = 'title = "t"\ndescription = "d"\nsource = "s"\n'
CASE = Case(3, 16, 9, 7, part="module", proxy=3)
TRAIN = replace(CASE, phase="train")
EVERYWHERE = ("attention_torch", "gspn1", "gspn1_checkpointed", "gspn2", "gspn2_checkpointed")
"""Modules that run on a CPU without compiling."""


def checked(work: ModuleRun) -> Observations:
    """Run the preflight of a module and return its observations."""
    observed = Observations()
    preflight(work, 0, observed)
    return observed


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


# The gate.


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("part", ["module", "block"])
@pytest.mark.parametrize("phase", ["forward", "train"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_module_equals_its_float64_copy(name: str, part: Part, phase: Any, dtype: Any) -> None:
    case = replace(CASE, part=part, phase=phase, dtype=dtype)
    observed = checked(ModuleRun(case, MODULES[name]))
    assert observed.gate_slices == 3 * 16
    assert observed.gate_error is not None
    assert observed.gate_tolerance is not None
    assert 0 < observed.gate_error <= observed.gate_tolerance


@pytest.mark.parametrize(
    "case",
    [
        replace(CASE, part="projections"),
        replace(TRAIN, part="projections", dtype="bfloat16", proxy=None),
        replace(TRAIN, proxy=attention.FOLDED + 1),
        replace(TRAIN, proxy=1, height=1),
        replace(CASE, width=1, batch=1),
        Case(2, 3, 37, 33, "bfloat16", part="model", proxy=4),
        Case(2, 3, 33, 40, part="model", phase="train"),
    ],
    ids=lambda case: f"{case.label}, {case.phase}",
)
def test_every_part_of_gspn2_equals_its_float64_copy(case: Case) -> None:
    checked(ModuleRun(case, MODULES["gspn2"]))


@pytest.mark.skipif(not SIMULATED, reason="for a CPU")
def test_flash_attention_runs_on_a_cpu() -> None:
    checked(ModuleRun(replace(CASE, dtype="bfloat16"), MODULES["attention_flash"]))


def test_only_some_positions_of_a_large_map_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gspn2bench.workload.modules.ALL_POSITIONS", 62)
    monkeypatch.setattr("gspn2bench.workload.modules.SAMPLED_POSITIONS", 4)
    compared = []

    def spy(module: Any, tokens: Tensor, size: Any, positions: Tensor) -> Tensor:
        compared.append(positions.tolist())
        return output_at(module, tokens, size, positions)

    output_at = reference.output_at
    monkeypatch.setattr(reference, "output_at", spy)
    checked(ModuleRun(replace(CASE, batch=1), MODULES["attention_torch"]))
    assert compared[0] == [0, 20, 41, 62]


@pytest.mark.parametrize("part", ["module", "block"])
def test_gradients_of_attention_are_summed_over_blocks_of_positions(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores of a large map do not fit in memory at once."""
    compared = []

    def spy(module: Any, tokens: Tensor, size: Any, positions: Tensor) -> Tensor:
        if part == "module" or not isinstance(module, TorchAttention):
            compared.append(positions.tolist())
        return output_at(module, tokens, size, positions)

    output_at = reference.output_at
    monkeypatch.setattr(reference, "output_at", spy)
    work = ModuleRun(replace(TRAIN, part=part, batch=1), MODULES["attention_torch"])
    whole = checked(work)
    assert compared == [list(range(63))] * 2  # the gate runs twice
    compared.clear()
    monkeypatch.setattr(reference, "SCORES_BYTES", 20 * 63 * 8)
    in_blocks = checked(work)
    assert compared == [list(range(start, min(start + 20, 63))) for start in (0, 20, 40, 60)] * 2
    assert in_blocks.gate_error == pytest.approx(whole.gate_error, rel=1e-3)


# Planted faults.


@dataclass(frozen=True)
class Planted(ModuleRun):
    """A module with a fault at the end of its call."""

    fault: Callable[[Tensors, nn.Module], None] = lambda *_: None

    def bind(self, operands: Tensors) -> Call:
        correct = super().bind(operands)
        module = self._modules[operands.x.device.type]

        def call() -> None:
            correct()
            with torch.no_grad():
                self.fault(operands, module)

        return call


def output_of_another_image(operands: Tensors, module: nn.Module) -> None:
    assert operands.y is not None
    operands.y = operands.y[[0, 0, 2]]


def one_element(operands: Tensors, module: nn.Module) -> None:
    assert operands.y is not None
    operands.y[2, -1, 0] += 1


def no_output(operands: Tensors, module: nn.Module) -> None:
    operands.y = None


def an_infinite_output(operands: Tensors, module: nn.Module) -> None:
    assert operands.y is not None
    operands.y[1, 3, 3] = torch.inf


def stale_output() -> Callable[[Tensors, nn.Module], None]:
    """A fault that returns the first output again, whatever the input."""
    first: list[Tensor] = []

    def fault(operands: Tensors, module: nn.Module) -> None:
        assert operands.y is not None
        first.append(operands.y)
        operands.y = first[0]

    return fault


def a_parameter_changed(operands: Tensors, module: nn.Module) -> None:
    next(module.parameters())[0, 0] += 1


def the_input_changed(operands: Tensors, module: nn.Module) -> None:
    operands.x[0, 0, 0] += 1


def the_incoming_gradient_changed(operands: Tensors, module: nn.Module) -> None:
    assert operands.grad_y is not None
    operands.grad_y[0, 0, 0] += 1


def no_gradient_of_a_parameter(operands: Tensors, module: nn.Module) -> None:
    del operands.grads["scans.merge.bias"]


def no_gradient(operands: Tensors, module: nn.Module) -> None:
    operands.grads = {}


def a_gradient_that_is_nan(operands: Tensors, module: nn.Module) -> None:
    operands.grads["down.weight"][0, 0] = torch.nan


def a_gradient_of_one_image_left_out(operands: Tensors, module: nn.Module) -> None:
    operands.grads["x"][1] = 0


def half_a_gradient(operands: Tensors, module: nn.Module) -> None:
    operands.grads["up.bias"] /= 2


@pytest.mark.parametrize(
    ("case", "fault", "reason"),
    [
        (CASE, output_of_another_image, "y: error"),
        (CASE, one_element, "y: error"),
        (CASE, no_output, "y: nothing was computed"),
        (CASE, an_infinite_output, "y: 1 of 3024 elements are NaN or infinite"),
        (CASE, stale_output(), "on changed inputs, y: error"),
        (CASE, a_parameter_changed, "y: error"),
        (CASE, the_input_changed, "y: error"),
        (TRAIN, output_of_another_image, "y: error"),
        (TRAIN, the_incoming_gradient_changed, "error"),
        (TRAIN, no_gradient_of_a_parameter, "scans.merge.bias: nothing was computed"),
        (TRAIN, no_gradient, "x: nothing was computed"),
        (TRAIN, a_gradient_that_is_nan, "down.weight: 1 of 48 elements are NaN or infinite"),
        (TRAIN, a_gradient_of_one_image_left_out, "x: error"),
        (TRAIN, half_a_gradient, "up.bias: error"),
    ],
)
def test_a_fault_fails_the_gate(case: Case, fault: Any, reason: str) -> None:
    with pytest.raises(TrialEndedError, match=reason) as caught:
        checked(Planted(case, MODULES["gspn2"], fault))
    assert caught.value.status == "incorrect"


def test_results_of_an_earlier_call_do_not_count() -> None:
    work = ModuleRun(TRAIN, MODULES["gspn2"])
    operands = work.operands("cpu", 0)
    work.bind(operands)()
    kept = operands.y

    def call() -> None:
        operands.y = kept

    assert work.check(operands, call).reason == "x: nothing was computed"
    work.bind(operands)()
    assert work.check(operands, lambda: None).reason == "y: nothing was computed"


@pytest.mark.parametrize("changed", ["x", "parameters", "grad_y"])
def test_an_input_changed_before_the_call_fails_the_gate(changed: str) -> None:
    """The reference reads the changed input too, so the outputs agree."""

    class Early(ModuleRun):
        def bind(self, operands: Tensors) -> Call:
            correct = super().bind(operands)

            def call() -> None:
                with torch.no_grad():
                    self.inputs(operands)[changed][0].mul_(2)
                correct()

            return call

    with pytest.raises(TrialEndedError, match=f"^{changed}: the call changed this input"):
        checked(Early(TRAIN, MODULES["gspn2"]))


# Attention, and GSPN-2's folded projections.


def test_softmax_attention_at_positions_equals_the_full_output() -> None:
    module = SoftmaxAttention(12, 3).double()
    tokens = torch.randn(2, 63, 12, dtype=torch.float64)
    full = module(tokens, (9, 7))
    every_position = torch.arange(63)
    torch.testing.assert_close(module.at(tokens, every_position), full)
    some = torch.tensor([62, 0, 31])
    torch.testing.assert_close(module.at(tokens, some), full[:, some])


def test_softmax_attention_equals_torchs() -> None:
    tokens = torch.randn(2, 63, 12, dtype=torch.float64)
    wrapped, ours = TorchAttention(12, 3).double(), SoftmaxAttention(12, 3).double()
    expected, _ = wrapped.inner(tokens, tokens, tokens)
    torch.testing.assert_close(wrapped(tokens, (9, 7)), expected)
    torch.testing.assert_close(wrapped.at(tokens, torch.arange(63)), expected)
    mapped = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias"}
    mapped |= {"out_proj.weight": "out.weight", "out_proj.bias": "out.bias"}
    ours.load_state_dict({mapped[k]: value for k, value in wrapped.inner.state_dict().items()})
    torch.testing.assert_close(ours(tokens, (9, 7)), expected)


def test_heads_have_64_channels_by_default() -> None:
    assert [SoftmaxAttention(dim).heads for dim in (16, 64, 640, 768)] == [1, 1, 10, 12]
    assert TorchAttention(640).inner.num_heads == 10
    with pytest.raises(ValueError, match="heads: 5 do not divide 12 channels"):
        SoftmaxAttention(12, 5)
    with pytest.raises(ValueError, match="dim: 0 is below 1"):
        SoftmaxAttention(0)
    with pytest.raises(ValueError, match="heads: 0 is below 1"):
        SoftmaxAttention(12, 0)


def test_attention_in_a_block_is_compared_at_some_positions() -> None:
    block = reference.float64_copy(GSPNBlock(SoftmaxAttention(12, 3)))
    tokens = torch.randn(2, 63, 12, dtype=torch.float64)
    some = torch.tensor([5, 62])
    result = reference.output_at(block, tokens, (9, 7), some)
    torch.testing.assert_close(result, block(tokens, (9, 7))[:, some])


@pytest.mark.parametrize("proxy", range(1, attention.FOLDED + 1))
def test_folded_projections_compute_the_same_function(
    proxy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = GSPN2Attention(6, proxy).double()
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    parameters = [x, *module.parameters()]
    folded = module(x)
    grads = torch.autograd.grad(folded.square().sum(), parameters)
    monkeypatch.setattr(attention, "FOLDED", 0)
    expected = module(x)
    torch.testing.assert_close(folded, expected)
    for one, other in zip(
        grads, torch.autograd.grad(expected.square().sum(), parameters), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_a_compiled_module_equals_its_float64_copy() -> None:
    checked(ModuleRun(replace(CASE, batch=2), MODULES["gspn2_compiled"]))
    torch.compiler.reset()


@pytest.mark.parametrize("direction", ["all", "right"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_have_the_strides_that_the_compiler_expects(
    direction: str, dtype: torch.dtype
) -> None:
    """Their strides are those of the operator's fake kernel, whatever those of x and lam."""
    scans = (4,) if direction == "all" else ()
    x, lam, h = (
        torch.rand((*before, 2, 5, 7, 3)).to(dtype).movedim(-1, -3) for before in ((), scans, scans)
    )
    w = torch.rand((*scans, 3, 2, 5, 7)).to(dtype)
    operands = (h.clone(), x, lam, w, h)
    actual = scan_backward(*operands, direction, None, "r07")
    with FakeTensorMode() as mode:
        fake = (mode.from_tensor(tensor) for tensor in operands)
        expected = scan_backward(*fake, direction, None, "r07")
    for one, other in zip(actual, expected, strict=True):
        assert (one.shape, one.stride(), one.dtype) == (other.shape, other.stride(), other.dtype)


# In a sweep.


def test_rungs_run_kernels_and_modules_run_the_parts_they_build() -> None:
    specs = ["gspn2", "r07", "attention_torch", "torch_loop"]
    by_part = {part: registry.rungs_for_part(specs, part) for part in PARTS}
    assert by_part == {
        "kernel": ["r07", "torch_loop"],
        "projections": ["gspn2"],
        "module": ["gspn2", "attention_torch"],
        "block": ["gspn2", "attention_torch"],
        "model": ["gspn2"],
        "unet": ["gspn2"],
        "encoder": ["gspn2"],
    }


MIXED = """rungs = ["r07", "gspn2", "attention_torch"]
[axes]
batch = 1
channels = 4
height = 3
width = 2
part = ["kernel", "projections", "module"]
"""


@pytest.mark.skipif(not SIMULATED, reason="rows on a GPU: test_gpu.py")
def test_a_mixed_sweep_has_rows_for_matching_parts_only(tmp_path: Path) -> None:
    file = tmp_path / "mixed.toml"
    file.write_text(HEAD + MIXED)
    result = invoke("sweep", str(file), "--results", str(tmp_path / "runs"))
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "runs").iterdir()
    rows = read_run(folder).rows
    assert [(row.part, row.rung, row.status) for row in rows] == [
        ("kernel", "r07", "ok"),
        ("projections", "gspn2", "ok"),
        ("module", "gspn2", "ok"),
        ("module", "attention_torch", "ok"),
    ]
    assert [row.weights for row in rows] == ["channel", *["module"] * 3]
    assert [row.launches_expected for row in rows] == [1, None, None, None]
    assert rows[2].gate_slices == 4
    bytes_model = rows[2].bytes_model
    assert bytes_model is not None
    parameters = sum(p.numel() for p in GSPN2Attention(4).parameters())
    assert bytes_model == (2 * 3 * 2 * 4 + parameters) * 4


ONE = HEAD + 'rungs = ["gspn2"]\n[axes]\nbatch = 1\nchannels = 4\nsize = 8\n'


@pytest.mark.parametrize(
    ("axes", "complaint"),
    [
        (["proxy=2"], "proxy applies only to modules: set `part`"),
        (["part=block", "phase=backward"], "phase: a module runs forward, or train"),
        (
            ["part=module", "chunk=2"],
            "chunk applies only to bare scans: remove `chunk`, or `part` (module)",
        ),
        (["part=module", "direction=up"], "direction applies only to bare scans"),
        (
            ["part=projections", "weights=shared"],
            "weights applies only to bare scans: remove `weights`, or `part` (projections)",
        ),
        (["part=module", "directions=4"], "directions applies only to bare scans"),
        (
            ["part=model", "logits=1"],
            "logits applies only to bare scans: remove `logits`, or `part` (model)",
        ),
        (["phase=train"], "phase: 'train' is not one of forward, backward"),
    ],
)
def test_a_field_of_a_different_part_is_refused(
    tmp_path: Path, axes: list[str], complaint: str
) -> None:
    file = tmp_path / "one.toml"
    file.write_text(ONE)
    loaded = scenario.load(str(file))
    with pytest.raises(UsageError, match="scenario one, case N1 C4 8x8") as caught:
        selection.cases(loaded, [parse_axis(text) for text in axes])
    assert complaint in str(caught.value)


def test_a_scenario_without_a_case_for_any_rung_is_refused() -> None:
    result = invoke("sweep", "train", "--rung", "r07,torch_loop", "--dry-run")
    assert isinstance(result.exception, UsageError)  # which exits with 2: test_cli.py
    assert str(result.exception) == "--rung: no case of train can be run by r07, torch_loop"


def test_labels_name_part_and_proxy() -> None:
    assert CASE.label == "N3 C16 9x7 float32, module, C_proxy 3"
    assert replace(CASE, part="kernel", proxy=None).label == "N3 C16 9x7 float32"


def test_a_module_that_can_not_run_a_case_gives_the_reason() -> None:
    tokens = Case(1, 640, 1024, 1024, part="module", dtype="bfloat16")
    reasons = {name: ModuleRun(tokens, module).skip_reason for name, module in MODULES.items()}
    refused = ["attention_flash", "attention_efficient", "attention_torch"]
    assert [name for name, reason in reasons.items() if reason] == refused
    assert reasons["attention_flash"] == "attention: 2.8e+15 operations per call, above 1e+15"
    wide = ModuleRun(CASE, MODULES["attention_cudnn"]).skip_reason
    assert wide == "dtype: cudnn takes float16 or bfloat16, not float32"


# Images per second.


@pytest.mark.parametrize(
    "figures", [{}, {"images_per_s": 5.0, "latency_ms": 1.0}, {"images_per_s": 0.0}]
)
def test_a_published_figure_is_exactly_one(figures: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Published(rung="gspn2", machine="A100", source="s", **figures)


def test_images_per_second_give_the_time_of_a_batch() -> None:
    run = real_run()
    figure = Published(rung="r07", images_per_s=1544, machine="A100", source="s")
    record = run.record.model_copy(update={"published": (figure,)})
    rows: list[Row] = [row for row in run.rows if row.rung == "r07"]
    assert {row.batch for row in rows} != {1}
    table = frame.published([replace(run, record=record)])
    assert isinstance(run, Run)
    for line in table.itertuples():
        (batch,) = {row.batch for row in rows if row.case == line.case}
        assert line.published_ms == pytest.approx(batch / 1544 * 1000)
    assert len(table)
    assert table["published_gbps"].isna().all()
