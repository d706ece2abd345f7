// The types of the report's scripts, for tsc only: the data of the page as data.py writes it, and what
// the scripts derive from it.

// The data of the page

/** How a column's numbers are written: a function of formatting.js and of formatting.py. */
type FormatName = "count" | "number" | "percent" | "scientific" | "speedup";

/** A column of a table, `tables.Column` in Python. */
interface Column {
  header: string;
  key: string;
  /** Null for text. */
  format: FormatName | null;
  /** Left out where no row has a value. */
  optional: boolean;
  /** Stated in a sentence instead where every row has the same value. */
  folded: boolean;
}

/** The values of one column: one for all rows, indices into a list of names, or one per row. */
type PackedColumn<Value> = { all: Value } | { names: Value[]; at: number[] } | { values: Value[] };

/** A row as `frame` in analysis derives it. Units are in the names; null where there is no value. */
type RecordedRow = {
  run: string;
  machine: string;
  scenario: string;
  case: string;
  batch: number;
  channels: number;
  height: number;
  width: number;
  dtype: string;
  direction: string;
  directions: number;
  chunk: number;
  weights: string;
  logits: boolean;
  part: string;
  proxy: number | null;
  seed: number;
  rung: string;
  phase: string;
  timing: string;
  l2: string;
  simulated: boolean;
  latency_ms: number | null;
  latency_ms_low: number | null;
  latency_ms_high: number | null;
  stopped: string | null;
  /** Time that Python spends issuing one call, without waiting for the GPU; of eager rows only. */
  host_ms: number | null;
  launches_expected: number | null;
  launches_observed: number | null;
  bytes_model: number | null;
  bytes_traced: number | null;
  bytes_dram: number | null;
  sectors_load: number | null;
  sectors_store: number | null;
  requests_load: number | null;
  requests_store: number | null;
  sectors_l2_read: number | null;
  sectors_l2_write: number | null;
  bytes_touched: number | null;
  bytes_reread: number | null;
  copy_gbps: number | null;
  floor_ms: number | null;
  floor_bound: string | null;
  compile_s: number | null;
  peak_memory_bytes: number | null;
  gate_error: number | null;
  gate_tolerance: number | null;
  gate_slices: number | null;
  clock_mhz: number | null;
  temperature_c: number | null;
  throttle: string | null;
  status: string;
  reason: string | null;
  /** "whole scan", or the chunk after which h restarts. */
  chunking: string;
  /** The case, and what distinguishes it from others with the same label. */
  title: string;
  gate_green: boolean;
  /** Why an ok row shows no latency, or "". */
  withheld: string;
  base_rung: string | null;
  base_latency_ms: number | null;
  speedup: number | null;
  overlaps: boolean;
  gbps: number | null;
  copy_share: number | null;
  floor_share: number | null;
  traced_ratio: number | null;
  dram_ratio: number | null;
  launches_agree: boolean | null;
  extrapolated_ms: number | null;
  gain_share: number | null;
  /** Indices into `PageData.published` of the figures that apply to the row. */
  beside: number[];
};

/** A figure from a paper; either the latency or the rate is null. */
type Published = {
  published_ms: number | null;
  published_gbps: number | null;
  published_machine: string;
  published_source: string;
};

/** What a profiler saw of one rung on one case, with the launches of one call. */
type Trial = {
  run: string;
  tool: string;
  case: string;
  rung: string;
  phase: string;
  timing: string | null;
  calls: number;
  launches: number;
  launches_expected: number;
  gpu_ms: number;
  span_ms: number | null;
  gap_ms: number | null;
  /** Kernel names; `named` holds an index into them per launch. */
  names: string[];
  named: number[];
  /** Per launch, microseconds since the first; empty where launches were run one by one. */
  starts: number[];
  durations: number[];
};

/** One pair of rows of a comparison: a verdict with its numbers, or why there is none. */
type Change = {
  case: string;
  rung: string;
  phase: string;
  timing: string;
  dtype: string;
  weights: string;
  direction: string;
  l2: string;
  verdict: string;
  why?: string;
  base_ms?: number;
  new_ms?: number;
  change?: string;
  interval?: string;
};

interface RunSummary {
  id: string;
  title: string;
  machine: string;
  simulated: boolean;
  /** Why a simulated run has no figure of latencies, else "". */
  why: string;
}

type FigureId =
  | "ladder"
  | "size"
  | "channels"
  | "batch"
  | "slices"
  | "heat"
  | "roofline"
  | "launches"
  | "bytes"
  | "samples"
  | "timeline";

/** The title of a figure, its text where it is empty, and the columns of its table. */
interface FigureText {
  title: string;
  nothing: string;
  /** Whether it needs latencies. */
  timed: boolean;
  columns: Column[];
}

/** Everything embedded in the page, except its rows. */
interface PageData {
  runs: RunSummary[];
  rungs: string[];
  /** The samples of each row, ms; empty where the row shows no latency. */
  samples: number[][];
  /** The most samples kept per row, or null where all are kept. */
  thinned: number | null;
  published: Published[];
  trials: Trial[];
  /** The rows of each comparison. */
  changes: Change[][];
  changeColumns: Column[];
  rowColumns: Column[];
  figures: Partial<Record<FigureId, FigureText>>;
  config: PlotlyConfig;
}

/** The page's data as embedded: `data.payload` in Python. */
interface Payload extends PageData {
  /** Number of rows. */
  count: number;
  columns: { [Key in keyof RecordedRow]: PackedColumn<RecordedRow[Key]> };
}

// What the scripts derive from it

type Row = RecordedRow & {
  /** Position among the recorded rows. */
  index: number;
  /** Number of samples, or null where there are none. */
  samples: number | null;
};

type TimedRow = Row & { latency_ms: number };

/** The page's data with its rows unpacked. */
interface ReportData extends PageData {
  /** Keys of `RecordedRow`, in order. */
  keys: string[];
  rows: Row[];
}

/** What the reader chose with the controls. */
interface Choice {
  run: string;
  phase: string;
  timing: string;
  dtype: string;
  weights: string;
  direction: string;
  rungs: string[];
}

/** The rows that the controls choose, in the order of the ladder. */
interface View extends Choice {
  data: ReportData;
  record: RunSummary;
  /** Rows of every timing. */
  counted: Row[];
  /** Rows of the chosen timing. */
  rows: Row[];
  /** Rows of the chosen timing that have a latency. */
  timed: TimedRow[];
}

/** A view, and the row whose samples are shown. */
interface SampledView extends View {
  sampled: TimedRow | undefined;
}

/** The rows of one case under its title. */
interface Case<Member> {
  title: string;
  rows: Member[];
}

/** A row of any table: values by the keys of its columns. */
type TableRow = Readonly<Record<string, unknown>>;

/** Anything that `document.createElement` children can be made of. */
type Child = Node | string;

/** An entry of a legend: a marker, a line, a glyph, or a swatch that page.css draws. */
interface LegendEntry {
  name: string;
  /** A class of page.css. */
  key?: string;
  colour?: string;
  symbol?: MarkerSymbol;
  dash?: Dash;
  glyph?: string;
}

/** A figure ready to draw, the rows of its table, and a note under its title. */
interface Figure {
  data: PlotlyTrace[];
  layout: PlotlyLayout;
  legend: LegendEntry[];
  rows: TableRow[];
  note: string;
}

/** Null where the view has no row for the figure. */
type FigureBuilder = (view: SampledView) => Figure | null;

/** Bars of one colour and pattern; the key names both. */
interface Series {
  key: string;
  name: string;
}

/** A bar: null as its value draws none, and the text says why. */
interface Bar {
  series: Series;
  tick: string;
  /** Follows the tick, where a row has several bars. */
  quantity?: string;
  value: number | null;
  text: string;
  /** Follows the text, unless the chart is too narrow for it. */
  more?: string;
  /** The ends of its interval. */
  low?: number | null;
  high?: number | null;
  /** Where the floor is marked. */
  mark?: number | null;
}

/** The bars of one case. */
interface BarGroup {
  title: string;
  bars: Bar[];
}

/** A value and the ends of its interval. */
interface Interval {
  value: number;
  low?: number | null;
  high?: number | null;
}
