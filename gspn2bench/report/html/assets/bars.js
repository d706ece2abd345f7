// Grouped horizontal bars on a log axis. A group is the bars of one case under its title; a bar has a
// series ({ key, name }: the key names colour and pattern), a tick, a value, the text beside it, and
// if any an interval, a mark, and more text, which is left out of a figure that has no room for it.
// A value of null draws no bar: its text says why.
const bars = (() => {
  const SLOT = 24;
  const CHARACTER = 7;
  // characters of a tick, of a group's title, and of the text beside a bar
  const ROOM = matchMedia("(width < 600px)").matches ? [18, 44, 18] : [24, 64, Infinity];
  const PATTERNS = {
    "published-0": "/",
    "published-1": "x",
    "published-2": "\\",
    "published-3": ".",
    expected: "/",
    traced: "x",
    dram: ".",
  };

  // data and layout of a figure; the axis begins at `start` at the latest.
  function figure(groups, title, tickText = text.plain, start = Infinity) {
    const whole = (bar) => bar.text + (bar.more ?? "");
    const roomy = groups.every(({ bars }) => bars.every((bar) => whole(bar).length <= ROOM[2]));
    const placed = [];
    const headings = [];
    let bottom = 0;
    for (const group of groups) {
      headings.push({ title: group.title, y: bottom + 0.5 });
      group.bars.forEach((bar, place) => {
        placed.push({ ...bar, text: roomy ? whole(bar) : bar.text, y: bottom + 1.5 + place });
      });
      bottom += group.bars.length + 1.35;
    }
    const drawn = placed.filter((bar) => bar.value !== null);
    const [low, high] = span(drawn, start);
    const ticked = placed.map((bar) => Math.min(bar.tick.length, ROOM[0]));
    const left = 18 + CHARACTER * Math.max(...ticked);
    const right = 12 + CHARACTER * Math.max(0, ...drawn.map((bar) => bar.text.length));
    const keys = [...new Set(drawn.map((bar) => bar.series.key))];
    const data = keys.map((key) =>
      trace(
        drawn.filter((bar) => bar.series.key === key),
        key,
        low,
      ),
    );
    const ticks = theme.ticks(low, high);
    const layout = theme.layout(Math.round(SLOT * bottom) + 64, {
      margin: { l: left, r: right, t: 8, b: 56 },
      bargap: 0,
      barmode: "overlay",
      xaxis: theme.axis(title, {
        type: "log",
        range: [Math.log10(low), Math.log10(high)],
        tickvals: ticks,
        ticktext: ticks.map((tick) => tickText(tick)),
        tickangle: 0,
      }),
      yaxis: theme.axis("", {
        range: [bottom, 0],
        tickvals: placed.map((bar) => bar.y),
        ticktext: placed.map((bar) => text.label(bar.tick, ROOM[0])),
        ticks: "",
        ticklabelstandoff: 6,
        showgrid: false,
        automargin: false,
      }),
      annotations: headings.map((each) => heading(each, left)),
      // a casing first, so that the mark is seen on the bar as well as off it
      shapes: drawn
        .filter((bar) => bar.mark > 0)
        .flatMap((bar) => [mark(bar, "var(--surface)", 7), mark(bar, "var(--floor)", 3)]),
    });
    return { data: [...data, texts(placed, low)], layout };
  }

  // The ends of the axis: below every value, so that each bar is seen, and at the largest.
  function span(drawn, start) {
    const values = drawn.flatMap((bar) => [bar.value, bar.mark]).filter((value) => value > 0);
    if (!values.length) return [0.5, 10];
    const least = Math.min(start, Math.min(...values) / 1.8);
    const step = 10 ** Math.floor(Math.log10(least));
    const low = Math.max(
      ...[1, 2, 5].map((nice) => step * nice).filter((value) => value <= least * 1.0001),
    );
    return [low, Math.max(...values, ...drawn.map((bar) => bar.high ?? 0), low * 10)];
  }

  function trace(drawn, key, low) {
    const colour = `var(--${key.split("-")[0]})`;
    const points = drawn.map((bar) => ({ value: bar.value, low: bar.low, high: bar.high }));
    return {
      type: "bar",
      orientation: "h",
      name: text.label(drawn[0].series.name, 90),
      y: drawn.map((bar) => bar.y),
      // a log axis has no place for 0: the bar is a stub, its text says 0
      x: drawn.map((bar) => Math.max(bar.value, low)),
      width: 0.78,
      marker: {
        color: colour,
        line: { color: colour, width: 1.2 },
        pattern: {
          shape: PATTERNS[key] ?? "",
          fillmode: "replace",
          bgcolor: "var(--surface)",
          size: 7,
          solidity: 0.35,
        },
      },
      hoverinfo: "text",
      hovertext: drawn.map(
        (bar) =>
          `${text.label(bar.tick)}: ${text.label(bar.text)}<br>${text.label(bar.series.name, 90)}`,
      ),
      error_x: { ...theme.interval(points), visible: drawn.some((bar) => bar.high > 0) },
    };
  }

  // The text right of each bar and of its interval, running over into the margin.
  function texts(placed, low) {
    return {
      type: "scatter",
      mode: "text",
      showlegend: false,
      y: placed.map((bar) => bar.y),
      x: placed.map((bar) => Math.max(low, bar.value ?? 0, bar.high ?? 0)),
      text: placed.map((bar) => " " + text.label(bar.text)),
      textposition: "middle right",
      cliponaxis: false,
      hoverinfo: "skip",
    };
  }

  function heading({ title, y }, left) {
    return {
      text: `<b>${text.label(title, ROOM[1])}</b>`,
      x: 0,
      xref: "paper",
      xanchor: "left",
      xshift: 4 - left,
      y,
      yref: "y",
      showarrow: false,
      align: "left",
    };
  }

  function mark(bar, color, width) {
    return {
      type: "line",
      x0: bar.mark,
      x1: bar.mark,
      y0: bar.y - 0.5,
      y1: bar.y + 0.5,
      line: { color, width },
    };
  }

  return { figure };
})();
