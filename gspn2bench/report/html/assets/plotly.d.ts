// The part of Plotly that the report's scripts use, for tsc only. In a figure, tsc refuses an attribute
// that is not here.

type MarkerSymbol =
  "circle" | "square" | "diamond" | "triangle-up" | "triangle-down" | "cross" | "x" | "star";
type Dash = "solid" | "dash" | "dot" | "dashdot" | "longdash" | "longdashdot";
type Coordinate = number | string | null;

interface PlotlyLine {
  color?: string;
  dash?: Dash;
  width?: number;
}

interface PlotlyErrorBars {
  type: "data";
  symmetric: false;
  array: number[];
  arrayminus: number[];
  color: string;
  thickness: number;
  width: number;
  visible?: boolean;
}

interface PlotlyMarker {
  color: string;
  line?: PlotlyLine;
  opacity?: number;
  pattern?: {
    shape: "" | "/" | "x" | "\\" | ".";
    fillmode: "replace";
    bgcolor: string;
    size: number;
    solidity: number;
  };
  size?: number;
  symbol?: string | string[];
}

interface PlotlyTrace {
  type: "bar" | "heatmap" | "histogram" | "scatter";
  base?: number[];
  cliponaxis?: boolean;
  colorbar?: {
    title: { text: string; side: "right" };
    thickness: number;
    outlinewidth: number;
    ticksuffix?: string;
    ticktext?: string[];
    tickvals?: number[];
  };
  colorscale?: string;
  error_x?: PlotlyErrorBars;
  error_y?: PlotlyErrorBars;
  hoverinfo?: "name" | "skip" | "text";
  hoverongaps?: boolean;
  hovertemplate?: string;
  hovertext?: string[] | string[][];
  line?: PlotlyLine;
  marker?: PlotlyMarker;
  mode?: "lines" | "lines+markers" | "markers" | "text";
  name?: string;
  orientation?: "h";
  showlegend?: boolean;
  text?: string[] | string[][];
  textposition?: "middle right";
  texttemplate?: string;
  width?: number;
  x?: Coordinate[];
  xaxis?: "x2";
  xgap?: number;
  y?: Coordinate[];
  yaxis?: "y" | "y2";
  ygap?: number;
  z?: (number | null)[][];
}

interface PlotlyAxis {
  title?: { text: string; standoff: number };
  anchor?: "y2";
  automargin?: boolean;
  categoryarray?: string[];
  domain?: [number, number];
  exponentformat?: "none";
  fixedrange?: boolean;
  gridcolor?: string;
  linecolor?: string;
  nticks?: number;
  range?: [number, number];
  rangemode?: "tozero";
  showgrid?: boolean;
  tickangle?: number;
  ticklabelstandoff?: number;
  ticks?: "";
  ticktext?: string[];
  tickvals?: number[];
  type?: "category" | "log";
  zeroline?: boolean;
}

interface PlotlyShape {
  type: "line" | "rect";
  x0: number;
  x1: number;
  y0: number | null;
  y1: number | null;
  fillcolor?: string;
  line: PlotlyLine;
  opacity?: number;
  xref?: "paper";
}

interface PlotlyAnnotation {
  text: string;
  align: "left";
  bgcolor?: string;
  showarrow: boolean;
  x: number;
  xanchor: "left";
  xref: "paper";
  xshift: number;
  y: number;
  yref: "y";
}

interface PlotlyLayout {
  height: number;
  margin: { l: number; r: number; t: number; b: number };
  annotations?: PlotlyAnnotation[];
  bargap?: number;
  barmode?: "overlay";
  dragmode?: false | "zoom";
  font?: { color: string; size: number; family: string };
  hoverlabel?: object;
  legend?: object;
  modebar?: object;
  paper_bgcolor?: string;
  plot_bgcolor?: string;
  shapes?: PlotlyShape[];
  showlegend?: boolean;
  title?: object;
  width?: number;
  xaxis?: PlotlyAxis;
  xaxis2?: PlotlyAxis;
  yaxis?: PlotlyAxis;
  yaxis2?: PlotlyAxis;
}

interface PlotlyConfig {
  displaylogo: boolean;
  modeBarButtons: string[][];
  responsive: boolean;
  showSendToCloud: boolean;
}

interface PlotlyPicture {
  format: "png";
  width: number;
  height: number;
  scale: number;
}

declare const Plotly: {
  purge(chart: HTMLElement): void;
  react(
    chart: HTMLElement,
    data: PlotlyTrace[],
    layout: PlotlyLayout,
    config: PlotlyConfig,
  ): Promise<unknown>;
  /** The address of a picture. */
  toImage(
    figure: { data: PlotlyTrace[]; layout: PlotlyLayout },
    picture: PlotlyPicture,
  ): Promise<string>;
};
