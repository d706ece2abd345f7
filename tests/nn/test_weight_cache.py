"""Kept weights are those of the parameters: every change that a model goes through is noticed."""

import copy
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from gspn2bench.nn import GSPN2Attention, GSPNBlock, weight_cache
from gspn2bench.nn.attention import FOLDED

BUILDS: dict[str, Callable[[], GSPN2Attention]] = {
    "folded": lambda: GSPN2Attention(6, 2),
    "chained": lambda: GSPN2Attention(6, FOLDED + 1),
}
builds = pytest.mark.parametrize("name", BUILDS)
NAMES = [name for name, _ in GSPN2Attention(6).named_parameters()]


def warm(name: str, dtype: torch.dtype = torch.float64) -> tuple[Any, Tensor]:
    """A module in eval mode that has kept its weights, and an image."""
    torch.manual_seed(0)
    module, image = BUILDS[name]().to(dtype).eval(), torch.randn(2, 6, 4, 5, dtype=dtype)
    infer(module, image)
    assert keeps(module)
    return module, image


def infer(module: Any, image: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = module(image)
    return output


def keeps(module: Any) -> bool:
    cache = module.scans.kept
    return cache._valid and cache._entry is not None


def fresh(module: Any, image: Tensor) -> Tensor:
    """The output computed without kept weights, with gradients."""
    output: Tensor = copy.deepcopy(module).train().requires_grad_()(image)
    return output.detach()


def check(module: Any, image: Tensor, before: Tensor | None = None) -> Tensor:
    """Compare two calls with a module that keeps nothing; the output must differ from before."""
    output = infer(module, image)
    torch.testing.assert_close(output, fresh(module, image))
    assert torch.equal(infer(module, image), output)
    if before is not None:
        assert not torch.allclose(output, before)
    return output


@builds
def test_kept_weights_are_used_and_give_the_same_output(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, image = warm(name)
    expected = check(module, image)
    monkeypatch.setattr(weight_cache.WeightCache, "_compute", None)  # a call would raise
    assert torch.equal(infer(module, image), expected)


# Changes of parameters.


@builds
@pytest.mark.parametrize("parameter", NAMES)
def test_an_in_place_change_of_a_parameter(name: str, parameter: str) -> None:
    module, image = warm(name)
    before = infer(module, image)
    with torch.no_grad():
        module.get_parameter(parameter).mul_(1.5).add_(0.1)
    check(module, image, before)


@builds
@pytest.mark.parametrize("parameter", NAMES)
def test_a_replaced_parameter(name: str, parameter: str) -> None:
    module, image = warm(name)
    before = infer(module, image)
    part, _, kind = parameter.rpartition(".")
    layer = module.get_submodule(part)
    setattr(layer, kind, nn.Parameter(1.5 * getattr(layer, kind).detach() + 0.1))
    check(module, image, before)
    if kind == "bias":
        before = infer(module, image)
        layer.bias = None
        check(module, image, before)


@builds
@pytest.mark.parametrize("parameter", NAMES)
def test_new_data_of_a_parameter(name: str, parameter: str) -> None:
    """Assigned twice, so the second memory may be at the address of the first."""
    module, image = warm(name)
    before = infer(module, image)
    value = module.get_parameter(parameter)
    value.data = value.data + 1
    value.data = value.data - 0.5
    check(module, image, before)


@builds
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("kind", [{}, {"foreach": True}, {"fused": True}])
def test_an_optimizer_step(name: str, optimizer: Any, kind: Any) -> None:
    """In eval mode, where nothing but the version says that a step was made."""
    module, image = warm(name)
    steps = optimizer(module.parameters(), lr=0.1, **kind)
    for _ in range(2):
        loss = module(image).square().sum()
        before = infer(module, image)
        loss.backward()
        assert keeps(module)
        steps.step()
        check(module, image, before)


@builds
@pytest.mark.parametrize("assign", [False, True])
def test_load_state_dict(name: str, assign: bool) -> None:
    module, image = warm(name)
    before = infer(module, image)
    state = {key: 1.5 * value for key, value in module.state_dict().items()}
    module.load_state_dict(state, assign=assign)
    check(module, image, before)


@builds
def test_reset_parameters(name: str) -> None:
    module, image = warm(name)
    before = infer(module, image)
    module.reset_parameters()
    check(module, image, before)


@builds
def test_other_types(name: str) -> None:
    module, image = warm(name)
    assert infer(module.float(), image.float()).dtype == torch.float32
    check(module, image.float())
    assert infer(module.half(), image.half()).dtype == torch.float16
    before = infer(module, image.half())
    for parameter in module.parameters():  # the same memory, read as another type
        parameter.data = parameter.data.view(torch.bfloat16)
    assert infer(module, image.bfloat16()).dtype == torch.bfloat16
    assert not torch.allclose(infer(module, image.bfloat16()).half(), before)


@builds
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_change_through_data_is_noticed_after_train_or_eval(name: str, mode: str) -> None:
    """torch counts no version there: the one change that needs a call of ours."""
    module, image = warm(name)
    before = infer(module, image)
    for layer in (module.down, module.scans.u_delta, module.up):
        layer.weight.data.mul_(1.5)
    model = GSPNBlock(module)
    getattr(model, mode)()
    model.eval()
    check(module, image, before)


@builds
@pytest.mark.parametrize("part", ["down", "scans.lam_delta", "scans.merge", "up"])
def test_an_adapter_that_changed_the_data_of_a_weight(name: str, part: str) -> None:
    """As peft merges: it changes ``.data`` and puts the same layer back."""
    module, image = warm(name)
    before = infer(module, image)
    layer = module.get_submodule(part)
    module.set_submodule(part, nn.Sequential(layer))
    layer.weight.data += 0.5
    module.set_submodule(part, layer)
    check(module, image, before)


# Modes.


@builds
def test_nothing_is_kept_in_train_mode_or_with_gradients(name: str) -> None:
    torch.manual_seed(0)
    module, image = BUILDS[name](), torch.randn(2, 6, 4, 5)
    infer(module, image)
    module.eval()(image)
    assert not keeps(module)
    infer(module, image)
    assert keeps(module)


@builds
def test_requires_grad_is_toggled(name: str) -> None:
    module, image = warm(name)
    expected = check(module, image)
    for _ in range(2):
        module.requires_grad_(False)
        frozen = image.clone().requires_grad_()
        module(frozen).square().sum().backward()  # gradients of the image alone
        module.requires_grad_(True)
        moving = image.clone().requires_grad_()
        module(moving).square().sum().backward()
        torch.testing.assert_close(frozen.grad, moving.grad)
        assert all(p.grad is not None and p.grad.any() for p in module.parameters())
        module.scans.weights.weight.requires_grad_(False)
        assert module(image).requires_grad
        torch.testing.assert_close(check(module, image), expected)


@builds
def test_inference_mode(name: str) -> None:
    """Weights kept in inference mode can be saved for backward outside of it."""
    torch.manual_seed(0)
    module, image = BUILDS[name]().double().eval(), torch.randn(2, 6, 4, 5, dtype=torch.float64)
    with torch.inference_mode():
        expected = module(image)
    assert keeps(module)
    module.requires_grad_(False)(image.requires_grad_()).sum().backward()
    assert torch.equal(check(module, image.detach()), expected)


@builds
def test_inference_tensors_have_no_version_and_nothing_is_kept(name: str) -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        module, image = BUILDS[name]().double().eval(), torch.randn(2, 6, 4, 5).double()
        before = module(image)
        assert not keeps(module)
        module.up.weight.mul_(2)
        assert not torch.allclose(module(image), before)


@builds
def test_autocast_has_weights_of_its_own_type(name: str) -> None:
    module, image = warm(name, torch.float32)
    expected = infer(module, image)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            output = infer(module, image)
            assert output.dtype == dtype
            assert torch.equal(infer(module, image), output)
        torch.testing.assert_close(output.float(), expected, rtol=0.1, atol=0.1)
    assert torch.equal(infer(module, image), expected)


# Copies, threads, processes.


@builds
def test_a_copy_keeps_its_own_weights(name: str) -> None:
    module, image = warm(name)
    expected = infer(module, image)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    copies = [
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(buffer, weights_only=False),
    ]
    for copied in copies:
        assert not keeps(copied)
        assert torch.equal(infer(copied, image), expected)
        with torch.no_grad():
            copied.down.weight.mul_(2)
        check(copied, image, expected)
        assert torch.equal(infer(module, image), expected)
    shallow = copy.copy(module)
    assert torch.equal(infer(shallow, image), expected)
    assert shallow.scans.state_dict().keys() == module.scans.state_dict().keys()
    assert copy.copy(module.scans).kept is not module.scans.kept


@builds
def test_two_threads(name: str) -> None:
    """Each thread has its own type under autocast, and replaces the weights the other kept."""
    module, image = warm(name, torch.float32)
    expected: dict[torch.dtype, Tensor] = {}
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            expected[dtype] = infer(module, image)
    wrong: list[torch.dtype] = []

    def run(dtype: torch.dtype) -> None:
        with torch.autocast("cpu", dtype):
            outputs = [infer(module, image) for _ in range(40)]
            wrong.extend(dtype for y in outputs if not torch.equal(y, expected[dtype]))

    threads = [threading.Thread(target=run, args=(dtype,)) for dtype in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@builds
def test_nothing_is_kept_of_memory_that_processes_share(name: str) -> None:
    module, image = warm(name)
    module.share_memory()
    check(module, image)
    module.scans.kept.clear()
    infer(module, image)
    assert not keeps(module)


@builds
def test_nothing_is_kept_in_a_process_group(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FSDP gathers parameters into the same memory, and torch counts no version."""
    module, image = warm(name)
    module.scans.kept.clear()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    infer(module, image)
    assert not keeps(module)


# Tracing and transforms: weights are computed from the parameters that are given.


@builds
def test_functional_call(name: str) -> None:
    module, image = warm(name)
    before = infer(module, image)
    changed = {key: 1.5 * p.detach() for key, p in module.named_parameters()}
    with torch.no_grad():
        output = torch.func.functional_call(module, changed, (image,))
    assert not torch.allclose(output, before)
    assert torch.equal(infer(module, image), before)


@builds
def test_transforms_of_torch_func(name: str) -> None:
    """With a scan in torch: custom operators do not take part in torch.func's transforms."""
    module, image = warm(name)
    module.scans.scan4 = lambda x, lam, w, *, u, **_: u * lam * x * w.mean((0, 1)).unsqueeze(1)
    before = infer(module, image)

    def call(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(module, parameters, (x,))
        return output

    changed = {key: 1.5 * p.detach() for key, p in module.named_parameters()}
    gradients = torch.func.grad(lambda p: call(p, image).sum())(changed)
    assert all(value.any() for value in gradients.values())
    both = {key: torch.stack([module.get_parameter(key).detach(), changed[key]]) for key in changed}
    outputs = torch.func.vmap(call, in_dims=(0, None))(both, image)
    torch.testing.assert_close(outputs, torch.stack([before, call(changed, image)]))
    module.requires_grad_(False).scans.kept.clear()
    torch.func.grad(lambda x: module(x).sum())(image)
    assert not keeps(module)
    assert torch.equal(infer(module, image), before)
    assert keeps(module)
    with torch.no_grad():  # kept weights are used inside of a transform
        outputs = torch.func.vmap(module)(torch.stack([image, 2 * image]))
    torch.testing.assert_close(outputs[0], before)


@builds
def test_a_traced_program_reads_the_parameters(name: str) -> None:
    module, image = warm(name)
    before = infer(module, image)
    with torch.no_grad():
        traced = make_fx(module)(image)
        compiled: Any = torch.compile(module, backend="eager", fullgraph=True)
        assert torch.equal(compiled(image), traced(image))
        for parameter in module.parameters():
            parameter.mul_(1.5)
        for program in (traced, compiled):
            assert not torch.allclose(program(image), before)
            torch.testing.assert_close(program(image), infer(module, image))


@builds
def test_fake_tensors_are_not_kept(name: str) -> None:
    module, image = warm(name)
    expected = infer(module, image)
    module.scans.kept.clear()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        assert module(mode.from_tensor(image)).shape == image.shape
    assert not keeps(module)
    assert torch.equal(infer(module, image), expected)
    meta = copy.deepcopy(module).to("meta").eval()
    assert infer(meta, image.to("meta")).shape == image.shape
    assert not keeps(meta)
