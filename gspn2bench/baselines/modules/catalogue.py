"""The modules that sweeps can run: line-scan modules, and the softmax attention they replace."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from torch import nn

from gspn2bench.baselines.modules import networks
from gspn2bench.baselines.modules.contract import Module
from gspn2bench.cases.scenario import Case
from gspn2bench.nn import GSPN1Attention, GSPN2Attention, GSPNBlock, gspn2_tiny
from gspn2bench.nn.layout import TokenMixer
from gspn2bench.nn.softmax import SoftmaxAttention, SoftmaxBackend, TorchAttention
from gspn2bench.problem import Part

PROXY: Final = 2
"""C_proxy of a case that does not set it: that of the paper's models."""
MAX_OPERATIONS: Final = 10**15
"""Most operations per call of attention.

With more, a trial of ten calls takes over a minute on an H200. cuDNN has no such limit; its time
stands for attention in larger cases.
"""
IMAGE_CHANNELS: Final = 3
"""Channels of an image to classify."""
HALVES: Final = ("float16", "bfloat16")
Build = Callable[[Case], nn.Module]


def _mixer_parts(mixer: Callable[[Case], TokenMixer]) -> dict[Part, Build]:
    """The parts that a token mixer can run: the mixer alone, and the mixer in a block."""
    return {"module": mixer, "block": lambda case: GSPNBlock(mixer(case))}


def _proxy(case: Case) -> int:
    return PROXY if case.proxy is None else case.proxy


def _gspn2(case: Case) -> GSPN2Attention:
    return GSPN2Attention(case.channels, _proxy(case))


def _projections(case: Case) -> nn.Module:
    """The projections before and after the scans of GSPN-2, without the scans."""
    attention = _gspn2(case)
    return nn.Sequential(attention.down, attention.up)


def _too_long(case: Case) -> str | None:
    """Why attention is skipped: it has too many operations; None if it runs."""
    operations = 4 * case.batch * (case.height * case.width) ** 2 * case.channels
    if operations > MAX_OPERATIONS:
        return f"attention: {operations:.1e} operations per call, above {MAX_OPERATIONS:.0e}"
    return None


def _wrong_input(case: Case) -> str | None:
    """Why GSPN-2 can't take the input: it is not one of the part; None if it can."""
    if case.part == "model" and case.channels != IMAGE_CHANNELS:
        return f"channels: {case.channels}, expected {IMAGE_CHANNELS} for images"
    return networks.unsupported_reason("gspn2", case)


def _softmax(backend: SoftmaxBackend) -> Module:
    def unsupported_reason(case: Case) -> str | None:
        if backend != "efficient" and case.dtype not in HALVES:
            return f"dtype: {backend} takes {' or '.join(HALVES)}, not {case.dtype}"
        return None if backend == "cudnn" else _too_long(case)

    return Module(
        id=f"attention_{backend}",
        title=f"{backend} attention",
        idea=f"softmax attention of 64-channel heads, torch's {backend} back end",
        source="arXiv 1706.03762, section 3.2; torch",
        build=_mixer_parts(lambda case: SoftmaxAttention(case.channels, backend=backend)),
        unsupported_reason=unsupported_reason,
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
    idea="four scans of every channel, each with its own weights",
    source="arXiv 2501.12381, section 3",
    build=_mixer_parts(lambda case: GSPN1Attention(case.channels)),
)
GSPN2: Final = Module(
    id="gspn2",
    title="GSPN-2 module",
    idea="four scans of C_proxy channels with shared weights, between two 1 x 1 projections",
    source="arXiv 2512.07884, section 3",
    build={
        **_mixer_parts(_gspn2),
        "projections": _projections,
        "model": lambda case: gspn2_tiny(proxy=_proxy(case)),
        **networks.build("gspn2"),
    },
    attention="gspn2",
    unsupported_reason=_wrong_input,
)
GSPN1_CHECKPOINTED: Final = replace(
    GSPN1,
    id="gspn1_checkpointed",
    title="GSPN-1 module, kept lines",
    idea="gspn1, which recomputes h in backward from every K-th line",
    source="gspn2bench",
    build=_mixer_parts(lambda case: GSPN1Attention(case.channels, checkpoint_lines="auto")),
)
GSPN2_CHECKPOINTED: Final = replace(
    GSPN2,
    id="gspn2_checkpointed",
    title="GSPN-2 module, kept lines",
    idea="gspn2, which recomputes h in backward from every K-th line",
    source="gspn2bench",
    build={
        **_mixer_parts(
            lambda case: GSPN2Attention(case.channels, _proxy(case), checkpoint_lines="auto")
        ),
        "model": lambda case: gspn2_tiny(proxy=_proxy(case), checkpoint_lines="auto"),
    },
)
TORCH: Final = Module(
    id="attention_torch",
    title="nn.MultiheadAttention",
    idea="torch.nn.MultiheadAttention, 64 channels per head",
    source="arXiv 1706.03762, section 3.2; torch",
    build=_mixer_parts(lambda case: TorchAttention(case.channels)),
    unsupported_reason=_too_long,
)
SDPA: Final = Module(
    id="attention_sdpa",
    title="softmax attention of the library",
    idea="a network as its library builds it, with torch's scaled_dot_product_attention",
    source="arXiv 1706.03762, section 3.2; diffusers, transformers",
    build=networks.build("softmax"),
    attention="softmax",
    unsupported_reason=lambda case: networks.unsupported_reason("softmax", case),
)
IDENTITY: Final = Module(
    id="identity",
    title="no self-attention",
    idea="a network whose self-attention passes its input on: the most that a replacement can gain",
    source="gspn2bench",
    build=networks.build("identity"),
    attention="identity",
    unsupported_reason=lambda case: networks.unsupported_reason("identity", case),
)
MODULES: Final[dict[str, Module]] = {
    module.id: module
    for module in (
        *(_softmax(backend) for backend in ("flash", "cudnn", "efficient")),
        _compiled(_softmax("cudnn")),
        TORCH,
        GSPN1,
        GSPN1_CHECKPOINTED,
        GSPN2,
        GSPN2_CHECKPOINTED,
        _compiled(GSPN2),
        SDPA,
        _compiled(SDPA),
        IDENTITY,
        _compiled(IDENTITY),
    )
}
"""Modules by id, in the order of ``gspn2bench list``."""
