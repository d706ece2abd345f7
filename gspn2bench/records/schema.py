"""What a run records: the row, the run and the published figures, as pydantic models.

A run folder holds run.json (one ``RunRecord``) and rows.jsonl (one ``Row`` a line). Units stand in
the names. Bytes and GB are decimal: 1 GB = 1e9 bytes.
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

SCHEMA_VERSION: Final = 1

Timing = Literal["eager", "graph", "device"]
L2State = Literal["cold", "warm"]
Status = Literal[
    "ok", "incorrect", "skipped", "oom", "failed", "unstable", "invalid", "timeout", "not_run"
]
Stopped = Literal["interval", "samples", "time"]
"""Why sampling ended: the interval was narrow enough, or the samples or the time ran out."""
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Record(BaseModel):
    """Base of everything that is stored: unknown keys and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Published(Record):
    """A figure from a paper, shown beside ours and never mixed with it."""

    rung: str
    latency_ms: Positive | None = None
    gbps: Positive | None = None
    """Global-memory throughput, GB/s, where the paper gives that and no latency."""
    images_per_s: Positive | None = None
    """Images a second, where the paper gives that."""
    machine: str
    source: str
    where: dict[str, int | str] = Field(default_factory=dict)
    """Case fields that must match for this figure to apply; empty matches every case."""

    @model_validator(mode="after")
    def _one_figure(self) -> Self:
        figures = (self.latency_ms, self.gbps, self.images_per_s)
        if sum(figure is not None for figure in figures) != 1:
            raise ValueError("give one of latency_ms, gbps, images_per_s")
        return self


class Row(Record):
    """One (scenario, case, rung, phase, timing): one line of rows.jsonl."""

    # the case
    scenario: str
    case: str
    """A label for the case, equal for every rung of it: "N16 C8 1024x1024 float32"."""
    batch: int
    channels: int
    height: int
    width: int
    dtype: DType
    direction: Direction | Literal["all"]
    directions: int = 1
    """Scans side by side, each on a stream of its own; 4 is one for each direction."""
    chunk: int
    weights: Weights | Literal["module"]
    """Of a rung; a module makes its own."""
    logits: bool = False
    """Whether w holds logits, which the call normalizes."""
    part: Part = "kernel"
    proxy: Count | None = None
    """C_proxy, the channels that a module scans, where that is given."""
    seed: int
    # what was run, how
    rung: str
    phase: CasePhase
    timing: Timing
    l2: L2State
    simulated: bool
    # the latency; None where there is none
    latency_ms: Positive | None = None
    latency_ms_low: Positive | None = None
    latency_ms_high: Positive | None = None
    samples_ms: tuple[Positive, ...] = ()
    stopped: Stopped | None = None
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
    """Loads of a warp; sectors_load / requests_load is how well they coalesce."""
    requests_store: Count | None = None
    sectors_l2_read: Count | None = None
    sectors_l2_write: Count | None = None
    bytes_touched: Count | None = None
    """Different bytes read or written; traced, like the next."""
    bytes_reread: Count | None = None
    # ceilings and costs
    copy_gbps: Positive | None = None
    floor_ms: Positive | None = None
    compile_s: float | None = None
    peak_memory_bytes: Count | None = None
    # the gate
    gate_error: float | None = None
    gate_tolerance: float | None = None
    gate_slices: Count | None = None
    """Slices compared with the reference, of batch * channels."""
    # the machine during the samples
    clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle: str | None = None
    # the verdict
    status: Status
    reason: str | None = None


class SweepPlan(Record):
    """What a run set out to do; ``sweep --resume`` does what is left of it."""

    cases: tuple[dict[str, int | str | None], ...]
    """Fields of ``scenario.Case``, in order."""
    rungs: tuple[str, ...]
    """Ids of the ladder, or paths of a user's own files."""
    ids: tuple[str, ...] = ()
    """Ids of ``rungs``, in their order; empty in runs that did not record them."""
    timings: tuple[Timing, ...]
    samples: Annotated[int, Field(gt=0)]
    seconds: Positive
    limit_s: Positive
    """Longest time for one rung on one case, seconds."""


class TrafficPlan(Record):
    """What a run of ``traffic`` set out to do; ``traffic --resume`` does what is left of it."""

    cases: tuple[dict[str, int | str | None], ...]
    rungs: tuple[str, ...]
    tool: Literal["trace", "ncu", "all"]


class Facts(BaseModel):
    """Base of what a run knows of its machine: written back as it was read.

    A fact that could not be found out is None. A fact that the run's version of gspn2bench did not
    ask for is not written, and a key that is unknown here is kept.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _recorded_alone(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key in self.model_fields_set}


class Gpu(Facts):
    """The GPU that kernels run on."""

    name: str | None = None
    cuda: str | None = None
    """The newest CUDA that the driver runs: "13.0"."""
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
    """The code that a run was made with."""

    sha256: str | None = None
    """A hash of the package's source files."""
    commit: str | None = None
    """Of the git checkout that it ran from; None where it was installed."""
    dirty: bool | None = None
    """Whether that checkout had changes that were not committed."""


class Environment(Facts):
    """The machine and the software that a run was made with."""

    host: str | None = None
    """A label of the user's choice or a hash, never the machine's name."""
    platform: str | None = None
    python: str | None = None
    cpu_count: int | None = None
    gpu: Gpu | None = None
    packages: dict[str, str | None] = Field(default_factory=dict)
    """Versions by name; None where a package is not installed."""
    source: Source | None = None

    @property
    def gpu_name(self) -> str | None:
        """The GPU's name; None where there is no GPU or it is not named."""
        name = self.gpu.name if self.gpu else None
        return name if name and name.strip() else None

    @property
    def driver(self) -> str | None:
        """The version of the NVIDIA driver; None where the run does not say."""
        return self.gpu.driver if self.gpu else None


class RunRecord(Record):
    """run.json: how a run was made and on what."""

    schema_version: int
    run_id: str
    scenario: str
    title: str
    description: str
    source: str
    base: str | None = None
    """Id of the rung that speed-ups refer to, where the scenario names one that is run."""
    command: list[str]
    """The exact command, ready to be run again."""
    started_utc: str
    finished_utc: str | None = None
    simulated: bool
    simulated_reason: str | None = None
    seed: int
    l2: L2State
    environment: Environment
    copy_gbps: Positive | None = None
    copy_samples_gbps: tuple[Positive, ...] = ()
    step_us: Positive | None = None
    """Least time of one scan step: a shared-memory exchange and a barrier, microseconds."""
    l2_cold_ms: Positive | None = None
    """A kernel on data that fits the L2 cache, on rotated sets: the proof that cold is cold."""
    l2_warm_ms: Positive | None = None
    """The same kernel on one set, again and again."""
    published: tuple[Published, ...] = ()
    plan: SweepPlan | None = None
    traffic: TrafficPlan | None = None

    @property
    def machine(self) -> str | None:
        """The name of what ran the kernels: a GPU or the simulator; None where that is unknown."""
        return "Numba CUDA simulator" if self.simulated else self.environment.gpu_name


class Launch(Record):
    """One kernel, copy or fill of a profiled call."""

    name: str
    start_us: NotNegative | None = None
    """Since the call's first launch; None where the profiler ran each launch by itself."""
    duration_us: NotNegative


class ProfiledTrial(Record):
    """What a profiler saw of one rung on one case, inside the NVTX range ``measure``."""

    case: str
    rung: str
    phase: CasePhase
    timing: Timing | None
    calls: Annotated[int, Field(gt=0)]
    """Calls seen; times are means of them."""
    launches: Annotated[int, Field(gt=0)]
    """Launches of a call that the profiler saw."""
    launches_expected: Annotated[int, Field(gt=0)]
    """More than ``launches`` where the profiler was told to stop early."""
    gpu_ms: NotNegative
    """Sum of the durations of the launches seen."""
    span_ms: NotNegative | None
    """From a call's first start to its last end; None where launches were run one by one."""
    gap_ms: NotNegative | None
    """Time of the span in which nothing ran."""
    timeline: tuple[Launch, ...]
    """The call of median length, its first launches if there are many."""


class Profile(Record):
    """profile-<tool>-<id>.json of a run folder: figures of a profile, never measured latencies."""

    schema_version: int
    tool: Literal["nsys", "ncu"]
    tool_version: str | None
    gpu: str | None
    file: str
    """Name of the file that the figures are from."""
    sha256: str
    """Of that file."""
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

MIGRATIONS: Final[dict[int, Callable[[type[Record], dict[str, Any]], dict[str, Any]]]] = {}
"""By version, what makes a document of the next one: of the model and the parsed JSON, the JSON.

Version 1 is the first. Who makes version 2 adds ``{1: ...}`` here, so that old runs are still read.
"""


def check_version(version: object) -> int:
    """Hold a document's schema version to what can be read here.

    Raises:
        ValueError: there is none, or it is newer, or so old that nothing leads up from it.
    """
    if not isinstance(version, int) or isinstance(version, bool):
        raise ValueError("has no schema version: it was not written by gspn2bench")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"has schema version {version}, this is {SCHEMA_VERSION}; to mend: a newer gspn2bench"
        )
    if any(old not in MIGRATIONS for old in range(version, SCHEMA_VERSION)):
        raise ValueError(f"has schema version {version}, from which nothing leads to a newer one")
    return version


def upgrade(model: type[Model], text: str | bytes, version: int) -> Model:
    """Read a document, migrated from the version that it was written in.

    Args:
        model: what it is.
        text: JSON.
        version: as ``check_version`` has let pass.

    Raises:
        ValidationError: it breaks a rule of the model.
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
