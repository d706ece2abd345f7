"""The modules that sweeps know: of line scans, and of softmax attention, which they replace."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from torch import nn

from gspn2bench.baselines.modules.contract import Module
from gspn2bench.cases.scenario import Case
from gspn2bench.nn import GSPN1Attention, GSPN2Attention, GSPNBlock, gspn2_tiny
from gspn2bench.nn.layout import TokenMixer
from gspn2bench.nn.softmax import SoftmaxAttention, SoftmaxBackend, TorchAttention
from gspn2bench.problem import Part

PROXY: Final = 2
"""C_proxy where a case leaves it open: that of the paper's models."""
OPERATIONS: Final = 10**15
"""Of a call: with more, a trial of ten calls takes over a minute on an H200, unless it is cuDNN's,
whose time is then the one to know."""
IMAGE: Final = 3
"""Channels of an image that is classified."""
HALVES: Final = ("float16", "bfloat16")
Build = Callable[[Case], nn.Module]


def _in_place_of_attention(mixer: Callable[[Case], TokenMixer]) -> dict[Part, Build]:
    """A mixer by itself, and in a block."""
    return {"module": mixer, "block": lambda case: GSPNBlock(mixer(case))}


def _proxy(case: Case) -> int:
    return PROXY if case.proxy is None else case.proxy


def _gspn2(case: Case) -> GSPN2Attention:
    return GSPN2Attention(case.channels, _proxy(case))


def _projections(case: Case) -> nn.Module:
    """What GSPN-2 does to every position before and after its scans, with nothing in between."""
    attention = _gspn2(case)
    return nn.Sequential(attention.down, attention.up)


def _too_long(case: Case) -> str | None:
    """Why attention would take over a minute, or None."""
    operations = 4 * case.batch * (case.height * case.width) ** 2 * case.channels
    if operations > OPERATIONS:
        return f"attention: {operations:.1e} operations a call, above {OPERATIONS:.0e}"
    return None


def _not_an_image(case: Case) -> str | None:
    """Why the classifier can't take the input, or None."""
    if case.part == "model" and case.channels != IMAGE:
        return f"channels: {case.channels}, expected {IMAGE}, of an image"
    return None


def _softmax(backend: SoftmaxBackend) -> Module:
    def supports(case: Case) -> str | None:
        if backend != "efficient" and case.dtype not in HALVES:
            return f"dtype: {backend} takes {' or '.join(HALVES)}, not {case.dtype}"
        return None if backend == "cudnn" else _too_long(case)

    return Module(
        id=f"attention_{backend}",
        title=f"{backend} attention",
        idea=f"softmax attention of 64-channel heads, torch's {backend} back end",
        source="arXiv 1706.03762, section 3.2; torch",
        build=_in_place_of_attention(lambda case: SoftmaxAttention(case.channels, backend=backend)),
        supports=supports,
    )


def _compiled(module: Module) -> Module:
    return replace(
        module,
        id=f"{module.id}_compiled",
        title=f"{module.title}, compiled",
        idea=f"{module.id} through torch.compile",
        compiled=True,
    )


GSPN1: Final = Module(
    id="gspn1",
    title="GSPN-1 module",
    idea="four scans of every channel, each with weights of its own",
    source="arXiv 2501.12381, section 3",
    build=_in_place_of_attention(lambda case: GSPN1Attention(case.channels)),
)
GSPN2: Final = Module(
    id="gspn2",
    title="GSPN-2 module",
    idea="four scans of C_proxy channels with shared weights, between two 1 x 1 projections",
    source="arXiv 2512.07884, section 3",
    build={
        **_in_place_of_attention(_gspn2),
        "projections": _projections,
        "model": lambda case: gspn2_tiny(proxy=_proxy(case)),
    },
    supports=_not_an_image,
)
TORCH: Final = Module(
    id="attention_torch",
    title="nn.MultiheadAttention",
    idea="torch.nn.MultiheadAttention, 64 channels a head",
    source="arXiv 1706.03762, section 3.2; torch",
    build=_in_place_of_attention(lambda case: TorchAttention(case.channels)),
    supports=_too_long,
)
MODULES: Final[dict[str, Module]] = {
    module.id: module
    for module in (
        *(_softmax(backend) for backend in ("flash", "cudnn", "efficient")),
        _compiled(_softmax("cudnn")),
        TORCH,
        GSPN1,
        GSPN2,
        _compiled(GSPN2),
    )
}
"""Modules by id, in the order in which they are listed."""
