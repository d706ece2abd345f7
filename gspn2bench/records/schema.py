"""What a run records: rows, the run, its environment, published figures; all pydantic models.

A run folder contains run.json (one ``RunRecord``) and rows.jsonl (one ``Row`` per line). Names end
in their units. Bytes and GB are decimal: 1 GB = 1e9 bytes.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from gspn2bench.problem import CasePhase, Direction, DType, Part, Weights

SCHEMA_VERSION: Final = 3

Timing = Literal["eager", "graph", "device"]
L2State = Literal["cold", "warm"]
Status = Literal[
    "ok", "incorrect", "skipped", "oom", "failed", "unstable", "invalid", "timeout", "not_run"
]
Stopped = Literal["interval", "samples", "time"]
"""Why sampling ended: a narrow enough interval, the most samples, or the most time."""
FloorBound = Literal["bytes", "chain"]
"""Bound that the floor of a case is: its bytes at copy bandwidth, or its chain of steps."""
FloorChain = Literal["dependent FMAs", "shared-memory steps"]
"""Steps that the chain of a floor consists of; the second in runs of schema version 1."""
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Record(BaseModel):
    """Base of the stored models; unknown keys and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Published(Record):
    """A figure from a paper, shown beside ours and never mixed with ours."""

    rung: str
    latency_ms: Positive | None = None
    gbps: Positive | None = None
    """Global-memory throughput, GB/s, if the paper gives that instead of a latency."""
    images_per_s: Positive | None = None
    """Images per second, if the paper gives that instead."""
    machine: str
    source: str
    where: dict[str, int | str] = Field(default_factory=dict)
    """Case fields that must match for the figure to apply; empty matches every case."""

    @model_validator(mode="after")
    def _one_figure(self) -> Self:
        figures = (self.latency_ms, self.gbps, self.images_per_s)
        if sum(figure is not None for figure in figures) != 1:
            raise ValueError("give one of latency_ms, gbps, images_per_s")
        return self


class Row(Record):
    """One scenario, case, rung, phase and timing: one line of rows.jsonl."""

    # the case
    scenario: str
    case: str
    """The case's label, the same for every rung: "N16 C8 1024x1024 float32"."""
    batch: int
    channels: int
    height: int
    width: int
    dtype: DType
    direction: Direction | Literal["all"]
    directions: int = 1
    """Scans side by side, one stream each; 4 means one per direction."""
    chunk: int
    weights: Weights | Literal["module"]
    """Of a rung; a module computes its own weights."""
    logits: bool = False
    """Whether w holds logits that the call normalizes."""
    part: Part = "kernel"
    proxy: Count | None = None
    """C_proxy, the channels that a module scans, if the case sets it."""
    seed: int
    # what was run, and how
    rung: str
    phase: CasePhase
    timing: Timing
    l2: L2State
    simulated: bool
    # the latency, None if there is none
    latency_ms: Positive | None = None
    latency_ms_low: Positive | None = None
    latency_ms_high: Positive | None = None
    samples_ms: tuple[Positive, ...] = ()
    stopped: Stopped | None = None
    # the host time, of eager rows only
    host_ms: Positive | None = None
    """Time that Python spends issuing one call, without waiting for the GPU: median."""
    host_samples_ms: tuple[Positive, ...] = ()
    # the sample blocks; empty in runs of schema versions 1 and 2, which did not record them
    block_samples: tuple[Count, ...] = ()
    """Number of samples of each sample block; their sum is the number of samples."""
    block_clocks_mhz: tuple[NotNegative | None, ...] = ()
    """Clock of the multiprocessors after each sample block."""
    # launches of one call
    launches_expected: Count | None = None
    launches_observed: Count | None = None
    # global-memory traffic of one call
    bytes_model: Count | None = None
    bytes_traced: Count | None = None
    bytes_dram: Count | None = None
    sectors_load: Count | None = None
    sectors_store: Count | None = None
    requests_load: Count | None = None
    """Load instructions of warps; sectors_load / requests_load says how well they coalesce."""
    requests_store: Count | None = None
    sectors_l2_read: Count | None = None
    sectors_l2_write: Count | None = None
    bytes_touched: Count | None = None
    """Distinct bytes read or written, traced."""
    bytes_reread: Count | None = None
    """Bytes that a load reads although an earlier load has read them, traced."""
    # ceilings and costs
    copy_gbps: Positive | None = None
    floor_ms: Positive | None = None
    floor_bound: FloorBound | None = None
    """None in runs of schema version 1, which did not record it."""
    compile_s: float | None = None
    peak_memory_bytes: Count | None = None
    # the gate
    gate_error: float | None = None
    gate_tolerance: float | None = None
    gate_slices: Count | None = None
    """Slices compared with the reference, out of batch * channels."""
    # the machine during the samples
    clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle: str | None = None
    # the verdict
    status: Status
    reason: str | None = None


class SweepPlan(Record):
    """All work of a sweep; ``sweep --resume`` completes it."""

    cases: tuple[dict[str, int | str | None], ...]
    """Fields of ``scenario.Case``, in order."""
    rungs: tuple[str, ...]
    """Ids, or paths of a user's own files."""
    ids: tuple[str, ...] = ()
    """Ids of ``rungs``, in their order; empty in older runs, which did not record them."""
    timings: tuple[Timing, ...]
    samples: Annotated[int, Field(gt=0)]
    seconds: Positive
    limit_s: Positive
    """Time limit for one rung on one case, seconds."""
    cool_below_c: Positive | None = None
    """Temperature of the GPU below which a case may start, degrees Celsius; None for any."""
    cool_limit_s: Positive | None = None
    """Longest wait for that temperature, per case, seconds."""


class TrafficPlan(Record):
    """All work of a run of ``traffic``; ``traffic --resume`` completes it."""

    cases: tuple[dict[str, int | str | None], ...]
    rungs: tuple[str, ...]
    tool: Literal["trace", "ncu", "all"]


class Facts(BaseModel):
    """Base of the models of the environment, which are written back as they were read.

    A fact that could not be determined is None. A fact that the file lacks is not added, and a key
    that is unknown here is kept.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _recorded_alone(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class Gpu(Facts):
    """The GPU that kernels run on."""

    name: str | None = None
    cuda: str | None = None
    """The newest CUDA version that the driver supports: "13.0"."""
    multiprocessors: int | None = None
    l2_bytes: int | None = None
    memory_bytes: int | None = None
    driver: str | None = None
    """The version of the NVIDIA driver."""
    clock_sm_mhz: int | None = None
    clock_sm_max_mhz: int | None = None
    clock_memory_mhz: int | None = None
    clock_memory_max_mhz: int | None = None


class Source(Facts):
    """The code of a run."""

    sha256: str | None = None
    """A hash of the package's source files."""
    commit: str | None = None
    """Of the git checkout; None for an installed package."""
    dirty: bool | None = None
    """Whether the checkout had uncommitted changes."""


class Environment(Facts):
    """The machine and the software of a run."""

    host: str | None = None
    """A label that the user chooses, or a hash; never the machine's name."""
    platform: str | None = None
    python: str | None = None
    cpu_count: int | None = None
    gpu: Gpu | None = None
    packages: dict[str, str | None] = Field(default_factory=dict)
    """Versions by name; None for a package that is not installed."""
    source: Source | None = None

    @property
    def gpu_name(self) -> str | None:
        """The GPU's name; None if there is no GPU or the run does not name it."""
        name = self.gpu.name if self.gpu else None
        return name if name and name.strip() else None

    @property
    def driver(self) -> str | None:
        """The version of the NVIDIA driver; None if the run does not say."""
        return self.gpu.driver if self.gpu else None


class RunRecord(Record):
    """run.json: how and where a run was recorded."""

    schema_version: int
    run_id: str
    scenario: str
    title: str
    description: str
    source: str
    base: str | None = None
    """Id of the rung that speed-ups refer to, if the scenario names one and it is run."""
    command: list[str]
    """The exact command line."""
    started_utc: str
    finished_utc: str | None = None
    simulated: bool
    simulated_reason: str | None = None
    seed: int
    l2: L2State
    environment: Environment
    copy_gbps: Positive | None = None
    copy_samples_gbps: tuple[Positive, ...] = ()
    floor_chain: FloorChain = "dependent FMAs"
    fma_us: Positive | None = None
    """Time of one FMA in a chain of dependent ones, microseconds."""
    launch_us: NotNegative | None = None
    """Graph time of a call beyond its chain of FMAs, microseconds."""
    shuffle_step_us: Positive | None = None
    """Time of a line of one shuffle and two dependent FMAs, microseconds."""
    step_us: Positive | None = None
    """Time of a line through shared memory, with a barrier, microseconds."""
    l2_cold_ms: Positive | None = None
    """Time of a kernel on rotated operand sets; larger than ``l2_warm_ms`` if rotation works."""
    l2_warm_ms: Positive | None = None
    """Time of the same kernel on one operand set, which stays in the L2 cache."""
    published: tuple[Published, ...] = ()
    plan: SweepPlan | None = None
    traffic: TrafficPlan | None = None

    @property
    def machine(self) -> str | None:
        """The GPU or the simulator that ran the kernels, by name; None if the run does not say."""
        return "Numba CUDA simulator" if self.simulated else self.environment.gpu_name


class Launch(Record):
    """One kernel, memcpy or memset of a profiled call."""

    name: str
    start_us: NotNegative | None = None
    """Time since the call's first launch; None if the profiler serialised the launches."""
    duration_us: NotNegative


class ProfiledTrial(Record):
    """One rung on one case, as a profiler recorded it inside the NVTX range ``measure``."""

    case: str
    rung: str
    phase: CasePhase
    timing: Timing | None
    calls: Annotated[int, Field(gt=0)]
    """Profiled calls; times are means over them."""
    launches: Annotated[int, Field(gt=0)]
    """Profiled launches per call."""
    launches_expected: Annotated[int, Field(gt=0)]
    """Launches per call; more than ``launches`` if the profiler stopped early."""
    gpu_ms: NotNegative
    """Sum of the durations of the profiled launches."""
    span_ms: NotNegative | None
    """From a call's first start to its last end; None if launches were serialised."""
    gap_ms: NotNegative | None
    """Time within the span in which nothing ran."""
    timeline: tuple[Launch, ...]
    """The call of median length; only its first launches if there are many."""


class Profile(Record):
    """profile-<tool>-<id>.json of a run folder: results of a profile, never measured latencies."""

    schema_version: int
    tool: Literal["nsys", "ncu"]
    tool_version: str | None
    gpu: str | None
    file: str
    """Name of the profiler's file."""
    sha256: str
    """Hash of that file."""
    added_utc: str
    trials: Annotated[tuple[ProfiledTrial, ...], Field(min_length=1)]

    @property
    def content(self) -> str:
        """SHA-256 of the tool and of every figure, hexadecimal.

        It is what tells profiles apart: a report and its export have different bytes and the same
        content. It is not stored, so it holds for profiles that were recorded before it existed.
        """
        trials = sorted(trial.model_dump_json() for trial in self.trials)
        return hashlib.sha256("\n".join([self.tool, *trials]).encode()).hexdigest()


Model = TypeVar("Model", RunRecord, Row, Profile)


def _from_1(model: type[Record], document: dict[str, Any]) -> dict[str, Any]:
    """The floors of version 1 stay as recorded: their chain consists of shared-memory steps."""
    if model is RunRecord:
        return document | {"floor_chain": "shared-memory steps"}
    return document


def _from_2(_model: type[Record], document: dict[str, Any]) -> dict[str, Any]:
    """Rows of version 2 stay as recorded: they have one clock and no sample blocks."""
    return document


MIGRATIONS: Final[dict[int, Callable[[type[Record], dict[str, Any]], dict[str, Any]]]] = {
    1: _from_1,
    2: _from_2,
}
"""By version, a function of the model and the parsed JSON that returns JSON of the next version.

Version 1 is the first. Version 2 has a different chain in its floors. Version 3 has the clock of
each sample block, and the temperature at which a case may start.
"""


def check_version(version: object) -> int:
    """Check that a document of this schema version can be read.

    Raises:
        ValueError: the version is missing, newer than ``SCHEMA_VERSION``, or can't be migrated.
    """
    if not isinstance(version, int) or isinstance(version, bool):
        raise ValueError("has no schema version: it was not written by gspn2bench")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"has schema version {version}, but this gspn2bench reads up to {SCHEMA_VERSION}; "
            "fix: install a newer gspn2bench"
        )
    if any(old not in MIGRATIONS for old in range(version, SCHEMA_VERSION)):
        raise ValueError(f"has schema version {version}, which can't be migrated to a newer one")
    return version


def upgrade(model: type[Model], text: str | bytes, version: int) -> Model:
    """Read a document, and migrate it from the version in which it was written.

    Args:
        model: of the document.
        text: the document as JSON.
        version: of the document, accepted by ``check_version``.

    Raises:
        ValidationError: the document breaks a rule of the model.
    """
    if version == SCHEMA_VERSION:
        return model.model_validate_json(text)
    document = _Document.validate_json(text)
    for old in range(version, SCHEMA_VERSION):
        document = MIGRATIONS[old](model, document)
    if "schema_version" in model.model_fields:
        document = document | {"schema_version": SCHEMA_VERSION}
    return model.model_validate(document)


_Document: Final = TypeAdapter(dict[str, Any])
