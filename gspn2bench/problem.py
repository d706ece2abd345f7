"""The case under test: one line scan, its sizes, layout and arithmetic type.

The operator is the 2-D line scan of GSPN (arXiv 2501.12381 and 2512.07884, section 3 of each).
Tensors are NCHW and contiguous. A direction is a scan axis and a sign: "down" and "up" scan
the rows, "right" and "left" the columns. One step of the scan computes one *line*; a *slice* is
the H x W plane of one image and channel.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, Self, get_args

Direction = Literal["down", "up", "right", "left"]
DType = Literal["float32", "float16", "bfloat16"]
Weights = Literal["channel", "shared"]
Phase = Literal["forward", "backward"]
CasePhase = Literal[Phase, "train"]
"""What is timed: forward or backward of a scan; of a module forward, or both in one call."""
Part = Literal["kernel", "projections", "module", "block", "model", "unet", "encoder"]
"""How much is run: a bare scan; or the 1 x 1 projections of a module, the whole module (a
replacement for attention), a block around it, or an image classifier made of blocks; or a whole
network of a different library, with its self-attention replaced: SDXL's UNet, or SigLIP2-Base."""

DIRECTIONS: Final = get_args(Direction)
DTYPES: Final = get_args(DType)
WEIGHTS: Final = get_args(Weights)
PHASES: Final = get_args(Phase)
CASE_PHASES: Final = get_args(CasePhase)
SCAN_PHASES: Final[dict[CasePhase, tuple[Phase, ...]]] = {
    "forward": ("forward",),
    "backward": ("backward",),
    "train": PHASES,
}
"""The phases of the scans that one call runs, by the phase of its case."""
SHORT_PHASES: Final[dict[str, str]] = {"forward": "fwd", "backward": "bwd", "train": "train"}
PARTS: Final = get_args(Part)

ITEM_BYTES: Final[dict[str, int]] = {"float32": 4, "float16": 2, "bfloat16": 2}
MAX_EXTENT: Final = 2**31 - 1
"""Largest batch * channels and largest height * width: kernels index a slice with 32 bits."""


@dataclass(frozen=True)
class ScanProblem:
    """One line scan.

    Args:
        batch: images, N >= 1.
        channels: channels, C >= 1; batch * channels at most 2**31 - 1.
        height: rows, H >= 1.
        width: columns, W >= 1; height * width at most 2**31 - 1.
        dtype: storage type of every tensor; accumulation is float32 throughout.
        direction: "down" (from row 0), "up", "right" (from column 0) or "left".
        chunk: lines after which h restarts at 0 (GSPN-local), 1 to the scan length;
            None means the whole scan length.
        weights: "channel", one set per channel, w[3, N, C, H, W] (GSPN-1);
            "shared", one set for all channels, w[3, N, H, W] (GSPN-2).
        phase: "forward" or "backward".
        logits: whether w holds logits, which forward normalizes: a weight is the sigmoid of its
            logit, divided by the sum of the three sigmoids. A neighbour outside the line is left
            out of the sum. Backward always takes weights.

    Raises:
        ValueError: a field is out of bounds; the message names the field and the bound.
    """

    batch: int
    channels: int
    height: int
    width: int
    dtype: DType = "float32"
    direction: Direction = "down"
    chunk: int | None = None
    weights: Weights = "channel"
    phase: Phase = "forward"
    logits: bool = False

    def __post_init__(self) -> None:
        for field in ("batch", "channels", "height", "width"):
            _check_int(field, getattr(self, field), 1, MAX_EXTENT, f"{MAX_EXTENT}")
        for field, choices in (
            ("dtype", DTYPES),
            ("direction", DIRECTIONS),
            ("weights", WEIGHTS),
            ("phase", PHASES),
        ):
            value = getattr(self, field)
            if value not in choices:
                raise ValueError(f"{field}: {value!r} is not one of {', '.join(choices)}")
        if not isinstance(self.logits, bool):
            raise ValueError(f"logits: {self.logits!r} is neither True nor False")
        if self.logits and self.phase == "backward":
            raise ValueError("logits: must be False for backward, which takes weights")
        if self.slices > MAX_EXTENT:
            raise ValueError(f"batch * channels: {self.slices} is above {MAX_EXTENT}")
        if self.plane > MAX_EXTENT:
            raise ValueError(f"height * width: {self.plane} is above {MAX_EXTENT}")
        if self.chunk is not None:
            bound = f"the scan length, {self.steps}"
            _check_int("chunk", self.chunk, 1, self.steps, bound)

    @property
    def slices(self) -> int:
        """N * C: independent H x W planes."""
        return self.batch * self.channels

    @property
    def plane(self) -> int:
        """H * W: elements of one slice."""
        return self.height * self.width

    @property
    def vertical(self) -> bool:
        """Whether the scan axis is H; a line is then contiguous in memory."""
        return self.direction in ("down", "up")

    @property
    def steps(self) -> int:
        """Lines of one scan: H for down and up, W for right and left."""
        return self.height if self.vertical else self.width

    @property
    def line(self) -> int:
        """Elements of one line: W for down and up, H for right and left."""
        return self.width if self.vertical else self.height

    @property
    def chunk_length(self) -> int:
        """Lines after which h restarts at 0: ``chunk``, or else the whole scan length."""
        return self.steps if self.chunk is None else self.chunk

    @property
    def chunks(self) -> int:
        """Chunks of one slice; the last may be shorter."""
        return ceil_div(self.steps, self.chunk_length)

    @property
    def dependent_fmas(self) -> int:
        """Length of the longest chain of FMAs, at least, if each line comes from the one before it.

        An element is a sum of three neighbours times their weights, and one constant. An FMA takes
        one of these products. So an element waits for its neighbours for 1, 2 and 3 FMAs or more:
        for 2 on average, or for 1.5 at the ends of a line, which have two neighbours. The longest
        path back through the lines is not below the mean over all random paths. These choose every
        neighbour with equal probability, and are at an element in proportion to its neighbours.
        With P positions per line they have 6 (P - 1) / (3 P - 2) FMAs per line: nearly 2.
        """
        lines = self.chunk_length - 1
        if self.line == 1:
            return lines
        return lines * 6 * (self.line - 1) // (3 * self.line - 2)

    @property
    def item_bytes(self) -> int:
        """Bytes of one stored element."""
        return ITEM_BYTES[self.dtype]

    @property
    def data_shape(self) -> tuple[int, int, int, int]:
        """Shape of x, lam, h and their gradients: (N, C, H, W)."""
        return (self.batch, self.channels, self.height, self.width)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of w: (3, N, C, H, W), or (3, N, H, W) if the channels share one set."""
        if self.weights == "channel":
            return (3, *self.data_shape)
        return (3, self.batch, self.height, self.width)

    @property
    def compulsory_bytes(self) -> int:
        """Bytes that every kernel must move: each input read once, each output written once.

        Forward reads x, lam and w, and writes h. Backward reads the gradient of h, x, lam, w and
        h, and writes the gradients of x, lam and w.
        """
        data = self.slices * self.plane
        weights = 3 * (data if self.weights == "channel" else self.batch * self.plane)
        elements = 3 * data + weights if self.phase == "forward" else 6 * data + 2 * weights
        return elements * self.item_bytes

    def with_direction(self, direction: Direction) -> Self:
        """The same case, scanned in a different direction."""
        return replace(self, direction=direction)


def ceil_div(dividend: int, divisor: int) -> int:
    """The quotient of two whole numbers, rounded up."""
    return -(-dividend // divisor)


def _check_int(field: str, value: object, low: int, high: int, bound: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{field}: {value!r} is not a whole number")
    if value < low:
        raise ValueError(f"{field}: {value} is below {low}")
    if value > high:
        raise ValueError(f"{field}: {value} is above {bound}")
