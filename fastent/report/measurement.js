"use strict";
(() => {
  const { plain, css, faded, axis, draw, drawn } = page;
  const data = JSON.parse(document.getElementById("data").textContent);
  const names = data.classes.map(plain);
  const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;
  // Names may look like numbers: places are numbers, names their labels.
  const places = names.map((_, c) => c);
  const named = (title) => ({ ...axis(title), tickvals: places, ticktext: names, showgrid: false });
  const downwards = { range: [names.length - 0.5, -0.5] };

  function matrix() {
    const shares = data.matrix.map((row, a) => row.map((share, b) => (a === b ? null : share)));
    const text = shares.map((row, a) => row.map((share, b) => (share === null ? "" :
      `<b>${percent(share)}</b> of the neighbours of ${names[a]}<br>are of class ${names[b]}`)));
    const most = Math.max(1e-9, ...shares.flat().filter((share) => share !== null));
    const trace = {
      type: "heatmap", x: places, y: places, z: shares, hoverinfo: "text", hovertext: text, zmin: 0, zmax: most, hoverongaps: false,
      xgap: 1, ygap: 1, colorscale: [[0, faded(css("--c0"), 0.04)], [1, css("--c0")]],
      colorbar: { thickness: 10, outlinewidth: 0, tickformat: most < 0.02 ? ".1%" : ".0%", tickcolor: css("--soft"), tickfont: { color: css("--soft"), size: 12 } },
    };
    draw("plot-matrix", [trace], named("class of the neighbours"), { ...named("class of the point"), ...downwards });
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
    const zero = { type: "scatter", mode: "lines", hoverinfo: "skip", x: [0, 0], y: [-0.5, names.length - 0.5], line: { color: css("--soft"), width: 1, dash: "dot" } };
    draw("plot-classes", [zero, spans(0, 4, 2, faded(css("--c0"), 0.4)), spans(1, 3, 7, css("--c0")), medians],
      axis("relative margin"), { ...named(""), ...downwards });
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
    if (data.quantiles) {
      classes();
      margins();
    }
  });
})();
