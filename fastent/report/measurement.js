"use strict";
(() => {
  const { data, color, plain, css, faded, axis, draw, drawn } = page;
  const names = data.classes.map(plain);
  const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;
  // Names may look like numbers: places are numbers, names their labels.
  const places = names.map((_, c) => c);
  const named = (title) => ({ ...axis(title), tickvals: places, ticktext: names, showgrid: false });
  const downwards = { range: [names.length - 0.5, -0.5] };

  // Square roots give the small values of a heat map, which are the many, most of its colours.
  const scale = [0, 0.01, 0.04, 0.09, 0.16, 0.25, 0.36, 0.49, 0.64, 0.81, 1];
  const colors = () => scale.map((share) => [share, faded(css("--c0"), 0.04 + 0.96 * Math.sqrt(share))]);

  // Values of pairs of classes; the diagonal, which says nothing of a pair, is left blank.
  function pairs(id, values, said, most, bar, dots, across, down) {
    const blank = values.map((row, a) => row.map((value, b) => (a === b ? null : value)));
    const trace = {
      type: "heatmap", x: places, y: places, z: blank, hoverinfo: "text", zmin: 0, zmax: most, hoverongaps: false, xgap: 1, ygap: 1, colorscale: colors(),
      hovertext: blank.map((row, a) => row.map((value, b) => (value === null ? "" : said(value, a, b)))),
      colorbar: { thickness: 10, outlinewidth: 0, tickcolor: css("--soft"), tickfont: { color: css("--soft"), size: 12 }, ...bar },
    };
    const marks = {
      type: "scatter", mode: "markers", x: dots.map(([, b]) => b), y: dots.map(([a]) => a), hoverinfo: "skip",
      marker: { color: css("--paper"), size: 6, line: { color: css("--ink"), width: 1.5 } },
    };
    draw(id, [trace, marks], named(across), { ...named(down), ...downwards });
  }

  const largest = (values, least) => Math.max(least, ...values.flatMap((row, a) => row.filter((value, b) => a !== b && value !== null)));

  function matrix() {
    const chance = data.chance.other.reduce((sum, share) => sum + share, 0) / places.length;
    const most = largest(data.matrix, 1.02 * chance);
    const step = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((each) => most / each < 6) ?? 1;
    const ticks = Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step).filter((tick) => Math.abs(tick - chance) > 0.06 * most);
    const dots = places.flatMap((a) => places.filter((b) => a !== b && data.matrix[a][b] > data.chance.other[b]).map((b) => [a, b]));
    pairs("plot-matrix", data.matrix, (share, a, b) => `<b>${percent(share)}</b> of the neighbours of ${names[a]}<br>are of class ${names[b]}` +
      `<br>by chance ${percent(data.chance.other[b])}`, most,
    { tickvals: [...ticks, chance], ticktext: [...ticks.map(percent), `chance ${percent(chance)}`] }, dots, "class of the neighbours", "class of the point");
  }

  function purity() {
    const known = places.filter((c) => data.purity[c][0] !== null), ends = (bound) => known.map((c) => Math.abs(data.purity[c][bound] - data.purity[c][0]));
    const uncertain = known.some((c) => data.purity[c][1] < data.purity[c][2]);
    const rails = {
      type: "scatter", mode: "lines", hoverinfo: "skip", line: { color: faded(css("--c0"), 0.4), width: 2 },
      x: known.flatMap((c) => [data.chance.own[c], data.purity[c][0], null]), y: known.flatMap((c) => [c, c, null]),
    };
    const chance = {
      type: "scatter", mode: "markers", x: places.map((c) => data.chance.own[c]), y: places, hoverinfo: "text",
      hovertext: places.map((c) => `<b>${names[c]}</b><br>chance ${percent(data.chance.own[c])}`),
      marker: { symbol: "line-ns", size: 12, line: { color: css("--soft"), width: 2 } },
    };
    const means = {
      type: "scatter", mode: "markers", x: known.map((c) => data.purity[c][0]), y: known, hoverinfo: "text", marker: { color: css("--c0"), size: 10 },
      hovertext: known.map((c) => `<b>${names[c]}</b><br>${percent(data.purity[c][0])} of its neighbours` +
        (uncertain ? `<br>95 % interval ${percent(data.purity[c][1])} to ${percent(data.purity[c][2])}` : "")),
      ...(uncertain ? { error_x: { type: "data", symmetric: false, array: ends(2), arrayminus: ends(1), color: css("--c0"), thickness: 1.5, width: 4 } } : {}),
    };
    const fifths = [0, 0.2, 0.4, 0.6, 0.8, 1];
    draw("plot-purity", [rails, chance, means], { ...axis("neighbours of the same class"), range: [-0.02, 1.02], tickvals: fifths, ticktext: fifths.map(percent) }, { ...named(""), ...downwards });
  }

  function dimension() {
    const traces = Object.entries(data.dimension).map(([method, values], m) => ({
      type: "scatter", mode: "markers", x: values, y: places, hoverinfo: "text",
      hovertext: values.map((value, c) => (value === null ? "" : `<b>${names[c]}</b><br>${method} ${value.toFixed(2)}`)),
      marker: { color: color(m), size: 9, symbol: ["circle", "diamond", "square", "triangle-up"][m % 4] },
    }));
    draw("plot-dimension", traces, { ...axis("intrinsic dimension"), rangemode: "tozero" }, { ...named(""), gridcolor: css("--faint"), showgrid: true, ...downwards });
  }

  function collapse() {
    const most = largest(data.cdnv, 1e-9);
    pairs("plot-cdnv", data.cdnv, (value, a, b) => `<b>${Number(value.toPrecision(4))}</b><br>${names[a]} and ${names[b]}`, most, { nticks: 6 }, [], "", "");
  }

  function classes() {
    const known = places.filter((c) => data.quantiles[c].length);
    const spans = (low, high, width, ink) => ({
      type: "scatter", mode: "lines", hoverinfo: "skip", line: { color: ink, width },
      x: known.flatMap((c) => [data.quantiles[c][low], data.quantiles[c][high], null]), y: known.flatMap((c) => [c, c, null]),
    });
    const medians = {
      type: "scatter", mode: "markers", x: known.map((c) => data.quantiles[c][2]), y: known, hoverinfo: "text",
      hovertext: known.map((c) => `<b>${names[c]}</b><br>median ${data.quantiles[c][2].toFixed(3)}` +
        `<br>half between ${data.quantiles[c][1].toFixed(3)} and ${data.quantiles[c][3].toFixed(3)}`),
      marker: { color: css("--paper"), size: 8, line: { color: css("--c0"), width: 2 } },
    };
    // Lines end where Plotly's own range does: whiskers need room beyond them.
    const ends = [0, ...known.flatMap((c) => data.quantiles[c])], least = Math.min(...ends), most = Math.max(...ends);
    const beyond = 0.04 * (most - least || 1);
    const zero = { type: "scatter", mode: "lines", hoverinfo: "skip", x: [0, 0], y: [-0.5, names.length - 0.5], line: { color: css("--soft"), width: 1, dash: "dot" } };
    draw("plot-classes", [zero, spans(0, 4, 2, faded(css("--c0"), 0.4)), spans(1, 3, 7, css("--c0")), medians],
      { ...axis("relative margin"), range: [least - beyond, most + beyond] }, { ...named(""), ...downwards });
  }

  function margins() {
    const { counts, edges } = data.histogram;
    const middle = counts.map((_, i) => (edges[i] + edges[i + 1]) / 2);
    const bars = {
      type: "bar", x: middle, y: counts, width: edges[1] - edges[0], hoverinfo: "text",
      hovertext: counts.map((count, i) => `<b>${count.toLocaleString("en")}</b> points<br>${edges[i].toFixed(3)} to ${edges[i + 1].toFixed(3)}`),
      marker: { color: middle.map((x) => css(x < 0 ? "--c1" : "--c0")), line: { width: 0 } },
    };
    const drawnFrom = middle.filter((_, i) => counts[i]);
    draw("plot-margins", [bars], { ...axis("relative margin"), range: [Math.min(-0.1, drawnFrom[0] - 0.05), Math.max(0.1, drawnFrom.at(-1) + 0.05)] }, { ...axis("points"), separatethousands: true });
  }

  drawn(() => {
    if (data.matrix) matrix();
    if (data.purity) purity();
    if (data.dimension) dimension();
    if (data.cdnv) collapse();
    if (data.quantiles) {
      classes();
      margins();
    }
  });
})();
