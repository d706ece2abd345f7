import torch

from gspn2bench.problem import ScanProblem
from gspn2bench.workload import inputs


def test_the_seed_fixes_the_values() -> None:
    problem = ScanProblem(1, 2, 3, 4)
    one, same, other = (inputs.make(problem, "cpu", seed) for seed in (7, 7, 8))
    assert torch.equal(one.x, same.x)
    assert torch.equal(one.w, same.w)
    assert not torch.equal(one.x, other.x)


def test_weights_are_row_stochastic_without_neighbours_outside() -> None:
    for direction in ("down", "right"):
        problem = ScanProblem(2, 2, 3, 4, direction=direction)
        w = inputs.make(problem, "cpu", 0).w
        torch.testing.assert_close(w.sum(0), torch.ones(problem.data_shape))
        assert (w >= 0).all()
        lines = w if direction == "down" else w.swapaxes(-1, -2)
        assert (lines[0][..., 0] == 0).all()
        assert (lines[2][..., -1] == 0).all()
        assert (lines[1] > 0).all()


def test_a_line_of_one_element_has_only_its_middle_weight() -> None:
    w = inputs.make(ScanProblem(1, 1, 3, 1), "cpu", 0).w
    assert w[1].eq(1).all()
    assert w[0].eq(0).all()
    assert w[2].eq(0).all()


def test_outputs_are_poisoned() -> None:
    problem = ScanProblem(1, 2, 3, 4, phase="backward", weights="shared")
    operands = inputs.make(problem, "cpu", 0)
    written = inputs.outputs(problem, operands)
    assert set(written) == {"grad_x", "grad_lam", "grad_w"}
    assert all(t.isnan().all() for t in written.values())
    for tensor in written.values():
        tensor.zero_()
    inputs.poison(problem, operands)
    assert all(t.isnan().all() for t in written.values())


def test_vary_scales_shared_inputs_once() -> None:
    problem = ScanProblem(1, 1, 2, 2, phase="backward")
    one = inputs.make(problem, "cpu", 0)
    x, grad_h = one.x.clone(), one.grad_h
    assert grad_h is not None
    before = grad_h.clone()
    inputs.vary([one, one])
    assert torch.equal(one.x, -0.5 * x)
    assert torch.equal(grad_h, -0.5 * before)


def test_clones_have_equal_values_in_new_memory() -> None:
    problem = ScanProblem(1, 1, 2, 2)
    operands = inputs.make(problem, "cpu", 0)
    copy = inputs.clone(operands)
    assert torch.equal(copy.x, operands.x)
    copy.x.zero_()
    assert not torch.equal(copy.x, operands.x)
    assert copy.grad_h is None


def test_compulsory_bytes_are_the_bytes_of_the_operands() -> None:
    for phase in ("forward", "backward"):
        problem = ScanProblem(2, 3, 4, 5, phase=phase, weights="shared", dtype="float16")
        operands = inputs.make(problem, "cpu", 0)
        tensors = [t for t in vars(operands).values() if t is not None]
        assert problem.compulsory_bytes == sum(t.numel() * t.element_size() for t in tensors)
