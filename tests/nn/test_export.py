"""Modules in torch.compile, torch.export and AOTInductor: one program for any N, H and W."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from gspn2bench.nn import GSPN1Attention, GSPN2Attention, GSPN2Backbone, GSPNBlock
from gspn2bench.nn.attention import FOLDED
from gspn2bench.nn.backbone import Config

BUILDS: dict[str, Callable[[], nn.Module]] = {
    "gspn1": lambda: GSPN1Attention(8),
    "gspn2, folded": lambda: GSPN2Attention(8, 2),
    "block, not folded, chunk": lambda: GSPNBlock(GSPN2Attention(8, FOLDED + 1, chunk=3)),
}
OTHER_SHAPES = [(3, 8, 4, 9), (5, 8, 8, 8), (1, 8, 9, 4), (1, 8, 1, 1)]


def exported(
    module: nn.Module, shape: tuple[int, ...], strict: bool, least: int = 1
) -> ExportedProgram:
    """The program of a module for any N, and any H and W of at least ``least``."""
    sizes = {2: Dim("H", min=least, max=512), 3: Dim("W", min=least, max=512)}
    dynamic = {0: Dim("N", min=1, max=64), **sizes}
    return export(module, (torch.randn(shape),), dynamic_shapes=(dynamic,), strict=strict)


@pytest.mark.parametrize(
    ("name", "strict"), [*((name, False) for name in BUILDS), ("gspn2, folded", True)]
)
def test_exported_once_for_any_size(name: str, strict: bool) -> None:
    """H = C and H = W in the example, but not afterwards."""
    torch.manual_seed(0)
    module = BUILDS[name]()
    program = exported(module, (2, 8, 8, 8), strict).module()
    for shape in OTHER_SHAPES:
        image = torch.randn(shape)
        torch.testing.assert_close(program(image), module(image))


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_module_is_folded(strict: bool) -> None:
    program = exported(GSPN2Attention(8, 2), (2, 8, 5, 7), strict)
    products = [str(node.target) for node in program.graph.nodes if "mm" in str(node.target)]
    assert len([target for target in products if "addmm" in target]) == 1
    assert "gspn2bench.scaled_scans.default" in str(program.graph)


def test_a_model_of_images_is_exported() -> None:
    """Convolutions of torch fix a map of one row or column, so no map here has one."""
    torch.manual_seed(0)
    model = GSPN2Backbone(Config(8, (1, 1), mlp_ratio=2), classes=5).eval()
    program = exported(model, (2, 3, 24, 20), strict=False, least=17).module()
    for shape in [(3, 3, 17, 40), (1, 3, 32, 32)]:
        images = torch.randn(shape)
        torch.testing.assert_close(program(images), model(images))


def test_tokens_with_a_grid_are_exported() -> None:
    module = GSPN2Attention(8, grid=(4, 9))
    program = export(module, (torch.randn(2, 36, 8),), dynamic_shapes=({0: Dim("N")},)).module()
    tokens = torch.randn(5, 36, 8)
    torch.testing.assert_close(program(tokens), module(tokens))


@pytest.mark.parametrize("name", ["gspn2, folded", "block, not folded, chunk"])
def test_compiled_once_for_any_size(name: str) -> None:
    """Not even H = C or H = W compiles again, nor does training."""
    torch._dynamo.reset()
    module = BUILDS[name]()
    compiled: Any = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for number, shape in enumerate([(2, 8, 5, 7), (3, 8, 9, 4), (5, 8, 8, 8)]):
        image = torch.randn(shape)
        with torch.compiler.set_stance("fail_on_recompile" if number else "default"):
            output: Tensor = compiled(image)
        torch.testing.assert_close(output, module(image))
    output.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("hook", ["forward", "pre"])
def test_a_compiled_module_with_a_hook_is_not_folded(hook: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    module, image = GSPN2Attention(8, 2), torch.randn(2, 8, 5, 7)
    if hook == "forward":
        module.up.register_forward_hook(lambda *arguments: 2 * arguments[-1])
    else:
        module.down.register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],))
    compiled: Any = torch.compile(module, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(image), module(image))


# Saved in one process, loaded in another.

LOAD = """
import sys, torch
exported, package, tensors = sys.argv[1:]
try:
    torch.export.load(exported)
except RuntimeError:
    pass
else:
    raise SystemExit("loaded without the operator")
import gspn2bench.ops
pairs = torch.load(tensors)
programs = [torch.export.load(exported).module()]
if package:
    programs.append(torch._inductor.aoti_load_package(package))
for program in programs:
    for image, expected in pairs:
        with torch.no_grad():
            torch.testing.assert_close(program(image), expected)
print(len(programs), "programs,", len(pairs), "images")
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch
def test_a_program_is_loaded_by_another_process(tmp_path: Path) -> None:
    """Exported, and compiled ahead of time if there is a C++ compiler."""
    torch.manual_seed(0)
    module = GSPN2Attention(8, 2).eval().requires_grad_(False)
    program = exported(module, (2, 8, 8, 8), strict=False)
    files = [str(tmp_path / name) for name in ("module.pt2", "package.pt2", "tensors.pt")]
    torch.export.save(program, files[0])
    torch.save([(x, module(x)) for x in map(torch.randn, OTHER_SHAPES)], files[2])
    if shutil.which("g++") is None:
        files[1] = ""
    else:
        options = {"aot_inductor.compile_wrapper_opt_level": "O0"}
        torch._inductor.aoti_compile_and_package(
            program, package_path=files[1], inductor_configs=options
        )
    command = [sys.executable, "-P", "-W", "ignore", "-c", LOAD, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{2 if files[1] else 1} programs, 4 images"
