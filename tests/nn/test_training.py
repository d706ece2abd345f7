"""``GSPN2Attention`` as one node of autograd: values and gradients are those of the composition."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from gspn2bench.nn import GSPN2Attention, training
from gspn2bench.ops.planes import (
    Settings,
    launch_backward,
    launch_forward,
    plan_of_planes,
    scan_planes,
    scan_planes_backward,
)

SIZE = (3, 4)
NAMES = [name for name, _ in GSPN2Attention(6).named_parameters()]
Values = dict[str, Tensor]


def build(proxy: int = 2, **options: Any) -> GSPN2Attention:
    torch.manual_seed(0)
    return GSPN2Attention(6, proxy, **options).double()


def draw(*shape: int, **options: Any) -> Tensor:
    options.setdefault("dtype", torch.float64)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), **options)


def node(output: Tensor) -> bool:
    """Whether one node computed the output, behind views."""
    seen: Any = output.grad_fn
    while seen is not None and seen.name() in ("TransposeBackward0", "ViewBackward0"):
        seen = seen.next_functions[0][0]
    return seen is not None and seen.name() == "_MixBackward"


def results(module: Any, x: Tensor, *size: Any, expect_node: bool = True) -> Values:
    """The output, and the gradients of everything that requires them."""
    module.zero_grad()
    x = x.detach().requires_grad_(x.requires_grad)
    output = module(x, *size)
    assert node(output) is expect_node
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
    (output * weights).sum().backward()
    values = {"output": output.detach(), "x": x.grad}
    values.update({name: p.grad for name, p in module.named_parameters()})
    return {name: value for name, value in values.items() if value is not None}


def composed(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> Values:
    with monkeypatch.context() as patch:
        patch.setattr("gspn2bench.nn.attention.needs_training", lambda *_: False)
        return results(*arguments, expect_node=False)


def check(values: Values, expected: Values) -> None:
    assert values.keys() == expected.keys()
    for name, value in values.items():
        torch.testing.assert_close(value, expected[name], msg=lambda text, n=name: f"{n}: {text}")


INPUTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "tokens": lambda: (draw(2, 12, 6), SIZE),
    "tokens of every second position": lambda: (draw(2, 24, 6)[:, ::2], SIZE),
    "transposed tokens": lambda: (draw(2, 6, 12).mT, SIZE),
    "images": lambda: (draw(2, 6, 3, 4),),
    "one image": lambda: (draw(1, 6, 3, 4),),
    "channels last": lambda: (draw(2, 6, 3, 4).contiguous(memory_format=torch.channels_last),),
    "three images": lambda: (draw(3, 6, 3, 4),),
    "no image": lambda: (draw(0, 12, 6), SIZE),
    "no position": lambda: (draw(2, 6, 0, 4),),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "": {},
    "chunk": {"chunk": 2},
    "long chunk": {"chunk": 100},
    "no bias": {"bias": False},
    "proxy 9": {"proxy": 9},
    "proxy 1": {"proxy": 1},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("inputs", INPUTS)
def test_values_and_gradients_are_those_of_the_composition(
    inputs: str, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = build(**OPTIONS[options])
    x, *size = INPUTS[inputs]()
    x.requires_grad_()
    check(results(module, x, *size), composed(monkeypatch, module, x, *size))


@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_of_any_order(options: str) -> None:
    module = build(**{**OPTIONS[options], "proxy": min(2, OPTIONS[options].get("proxy", 2))})
    x = draw(1, 6, 6).requires_grad_()
    parameters = dict(module.named_parameters())
    used: list[bool] = []

    def call(x: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(parameters, values, strict=True))
        output: Tensor = torch.func.functional_call(module, given, (x, (2, 3)))
        used.append(node(output))
        return output

    inputs = (x, *parameters.values())
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs, atol=1e-4)
    assert all(used)


@pytest.mark.parametrize(
    "names",
    [
        *([name] for name in ["x", *NAMES]),
        ["x", "up.weight"],
        ["scans.u_delta.bias", "scans.weights.weight"],
        ["down.bias", "scans.lam_delta.bias"],
        [name for name in NAMES if not name.startswith("down")],
        [name for name in NAMES if name.startswith("up")],
        NAMES,
    ],
    ids=lambda names: " ".join(names) if len(names) < 3 else str(len(names)),
)
def test_only_gradients_that_are_needed(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = build(), draw(2, 12, 6)
    everything = results(module, x.requires_grad_(), SIZE)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in names)
    x.requires_grad_("x" in names)
    values = results(module, x, SIZE)
    assert values.keys() == {"output", *names}
    check(values, {name: everything[name] for name in values})
    check(values, composed(monkeypatch, module, x, SIZE))


@pytest.mark.parametrize("name", ["scans.u_delta", "down", "scans.merge", "up"])
def test_one_layer_without_a_bias(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = build(), draw(2, 12, 6).requires_grad_()
    module.get_submodule(name).bias = None
    check(results(module, x, SIZE), composed(monkeypatch, module, x, SIZE))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("proxy", [2, 16])
def test_types_against_float64(
    dtype: torch.dtype, proxy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors as of the composition: at most one and a half times, of the largest element."""
    torch.manual_seed(0)
    module, tokens = GSPN2Attention(32, proxy).to(dtype), draw(2, 64, 32).to(dtype)
    tokens.requires_grad_()
    exact = results(
        copy.deepcopy(module).double(), tokens.double().detach().requires_grad_(), (8, 8)
    )
    ours = results(module, tokens, (8, 8))
    theirs = composed(monkeypatch, module, tokens, (8, 8))
    for name, value in ours.items():
        assert value.dtype == dtype
        largest = exact[name].abs().max()
        error, usual = (
            ((v.double() - exact[name]).abs().max() / largest) for v in (value, theirs[name])
        )
        assert error < 3.2e-2, name
        assert error <= max(1.5 * usual, 4 * torch.finfo(dtype).eps), name


# Backward more than once.


def test_backward_twice() -> None:
    module, x = build(), draw(2, 12, 6).requires_grad_()
    once = results(module, x, SIZE)
    module.zero_grad()
    moving = x.detach().requires_grad_()
    output = module(moving, SIZE)
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
    loss = (output * weights).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * once[name])
    torch.testing.assert_close(moving.grad, 2 * once["x"])
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_gradients_accumulate_and_may_be_changed_in_place() -> None:
    """The gradients of three layers share memory; a change of one is not seen by the others."""
    module, x = build(), draw(2, 12, 6)
    expected = {name: value.clone() for name, value in results(module, x, SIZE).items()}
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.is_contiguous()
        parameter.grad.mul_(2)
    output = module(x, SIZE)
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
    (output * weights).sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, 3 * expected[name])
    module.zero_grad(set_to_none=False)
    assert not any(parameter.grad.any() for parameter in module.parameters())  # type: ignore[union-attr]


def test_a_module_that_is_applied_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parameters reach the second call through the tokens too, in both orders of gradients."""
    module, x = build(), draw(1, 6, 6).requires_grad_()

    def second_order() -> list[Tensor]:
        inputs = [x, *module.parameters()]
        output = module(module(x, (2, 3)), (2, 3))
        gradients = torch.autograd.grad(output.square().sum(), inputs, create_graph=True)
        total: Any = sum(gradient.square().sum() for gradient in gradients)
        return [*gradients, *torch.autograd.grad(total, inputs)]

    values = second_order()
    monkeypatch.setattr("gspn2bench.nn.attention.needs_training", lambda *_: False)
    for value, expected in zip(values, second_order(), strict=True):
        torch.testing.assert_close(value, expected)


def test_a_changed_bias_is_refused_by_second_derivatives_only() -> None:
    module, x = build(), draw(2, 12, 6).requires_grad_()
    module.requires_grad_(False)
    output = module(x, SIZE).sum()
    module.down.bias.add_(1)
    (first,) = torch.autograd.grad(output, x, retain_graph=True)
    assert first.any()
    with pytest.raises(RuntimeError, match=r"a bias .* modified by an inplace operation"):
        torch.autograd.grad(output, x, create_graph=True)


def test_a_changed_weight_is_refused() -> None:
    module = build()
    output = module(draw(2, 12, 6), SIZE).sum()
    with torch.no_grad():
        module.up.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


def test_the_output_may_be_changed_in_place() -> None:
    module, x = build(), draw(2, 12, 6).requires_grad_()
    for change in (lambda y: y.add_(x), lambda y: y.mul_(2)):
        output = change(module(x, SIZE))
        output.sum().backward()


def test_batched_gradients() -> None:
    module, x = build(), draw(1, 6, 6).requires_grad_()
    output = module(x, (2, 3))
    many = draw(3, *output.shape)
    inputs = [x, *module.parameters()]
    loop = [torch.autograd.grad(output, inputs, one, retain_graph=True) for one in many]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that there is no batching rule
        batched = torch.autograd.grad(output, inputs, many, is_grads_batched=True)
    for index, value in enumerate(batched):
        torch.testing.assert_close(value, torch.stack([each[index] for each in loop]))


# In models: hooks, checkpoints, copies, other tensors.


def test_hooks_of_parameters_and_tensors_run() -> None:
    module, x = build(), draw(2, 12, 6).requires_grad_()
    expected = results(module, x, SIZE)
    seen: list[str] = []
    for name, parameter in module.named_parameters():
        parameter.register_hook(lambda grad: 2 * grad)
        parameter.register_post_accumulate_grad_hook(lambda _, n=name: seen.append(n))
    values = results(module, x, SIZE)
    assert sorted(seen) == sorted(NAMES)
    for name in NAMES:
        torch.testing.assert_close(values[name], 2 * expected[name])


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints(reentrant: bool) -> None:
    module, x = build(), draw(2, 12, 6).requires_grad_()
    expected = results(module, x, SIZE)
    module.zero_grad()
    moving = x.detach().requires_grad_()
    output = checkpoint(module, moving, SIZE, use_reentrant=reentrant)
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
    (output * weights).sum().backward()
    values = {name: p.grad for name, p in module.named_parameters()}
    check({"output": output.detach(), "x": moving.grad, **values}, expected)  # type: ignore[dict-item]


def test_saved_tensors_can_be_moved() -> None:
    module, x = build(), draw(2, 12, 6).requires_grad_()
    expected = results(module, x, SIZE)
    packed: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (packed.append(1), t.clone())[1], lambda t: t
    ):
        values = results(module, x, SIZE)
    assert packed
    check(values, expected)


def test_a_copy_trains_by_itself() -> None:
    module, x = build(), draw(2, 12, 6)
    expected = results(module, x, SIZE)
    copied = copy.deepcopy(module)
    with torch.no_grad():
        module.down.weight.mul_(2)
    check(results(copied, x, SIZE), expected)


def test_data_parallel_gradients(tmp_path: Any) -> None:
    """DistributedDataParallel with one process: gradients go to its buckets."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1
    )
    try:
        module, x = build(), draw(2, 12, 6)
        expected = results(module, x, SIZE)
        module.zero_grad()
        parallel = nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)
        output = parallel(x, SIZE)
        weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
        (output * weights).sum().backward()
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name])
    finally:
        torch.distributed.destroy_process_group()


def test_backward_under_autocast() -> None:
    module, x = build().float(), draw(2, 12, 6, dtype=torch.float32).requires_grad_()
    expected = results(module, x, SIZE)
    module.zero_grad()
    output = module(x, SIZE)
    weights = torch.linspace(-1, 2, output.numel()).view(output.shape)
    with torch.autocast("cpu", torch.bfloat16):
        (output * weights).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected["x"])


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # of dual tensors
def test_where_the_composition_is_used() -> None:
    module, x = build(), draw(2, 12, 6)
    assert node(module(x, SIZE))
    assert node(module.eval()(x, SIZE))
    with torch.autocast("cpu", torch.bfloat16):
        assert not node(module.float()(x.float(), SIZE))
    module = build()
    module.scans.scan4 = lambda x, lam, w, *, u, **_: u * lam
    assert not node(module(x, SIZE))
    module = build()
    module.up.register_forward_hook(lambda *_: None)
    assert not node(module(x, SIZE))
    assert not build().requires_grad_(False)(x, SIZE).requires_grad
    with torch.no_grad():
        assert not build()(x, SIZE).requires_grad

    class Other(Tensor):
        pass

    other = x.as_subclass(Other)
    assert not node(build()(other, SIZE))
    module = build()
    module(x.requires_grad_(), SIZE)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward-mode"):
        module(forward_ad.make_dual(x, x), SIZE)


def test_constants_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MAX_CONSTANTS", 2)
    training._kept_constants.clear()
    for proxy in (1, 2, 3, 4):
        results(build(proxy), draw(1, 12, 6), SIZE)
        assert len(training._kept_constants) <= 2


# The scans of planes.


@pytest.mark.parametrize(("batch", "channels", "chunk"), [(1, 2, None), (3, 1, 2), (2, 3, None)])
def test_prepared_calls(batch: int, channels: int, chunk: int | None, device: str) -> None:
    """By the kernels of r09, on a GPU or in the simulator, against the composition on a CPU."""
    settings, positions, four = Settings(batch, 3, 4, chunk, "r09"), batch * 12, 4 * channels
    rows = (channels, 2 * four + 12, four)
    x, planes, grad = (draw(count, positions, dtype=torch.float32) for count in rows)
    expected, h = scan_planes(x, planes, settings)
    wanted = torch.empty(3 * four + 12, positions)
    scan_planes_backward(grad, x, planes, h, wanted, settings)
    x, planes, grad = (tensor.to(device) for tensor in (x, planes, grad))
    forward = plan_of_planes("forward", x, planes, settings)
    backward = plan_of_planes("backward", x, planes, settings)
    assert plan_of_planes("forward", x, planes, settings) is forward
    assert forward is not None
    assert backward is not None
    result, h = launch_forward(forward, x, planes)
    gradients = torch.full(wanted.shape, torch.nan, device=device)
    launch_backward(backward, grad, x, planes, h, gradients)
    torch.testing.assert_close(result.cpu(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[four:].cpu(), wanted[four:], rtol=1e-4, atol=1e-5)
    of_x, wanted_of_x = (
        values[:four].view(4, channels, positions).sum(0) for values in (gradients.cpu(), wanted)
    )
    torch.testing.assert_close(of_x, wanted_of_x, rtol=1e-4, atol=1e-5)


def test_flops_are_counted() -> None:
    module, x = build(), draw(2, 12, 6)
    module.requires_grad_(False).down.weight.requires_grad_()
    scans = 4 * 2 * 24  # elements of h
    with FlopCounterMode(display=False) as forward:
        output = module(x, SIZE)
    products = 24 * (6 * 2 + 2 * 28 + 8 * 2 + 2 * 6)
    assert forward.get_total_flops() == 2 * products + 8 * scans
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    products = 24 * (6 * 2 + 2 * 8 + 36 * 2 + 2 * 6)
    assert backward.get_total_flops() == 2 * products + 16 * scans
