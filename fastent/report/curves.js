"use strict";
// Curves over training, as traces of Plotly: lines of seeds, bands, marks, and the axes for epochs and errors.
const curves = (() => {
  const { css, faded, axis } = page;
  const percent = (share) => `${(100 * share).toPrecision(3)} %`;

  // A mean is missing where a network was trained on no point of the class.
  const written = (value) => (value === null ? "–" : value.toFixed(4));

  const line = (x, y, text, look) => ({
    type: "scatter", mode: "lines", x, y, hoverinfo: text ? "text" : "skip", hovertext: text, line: look,
  });

  // Epoch 0 has no place on a logarithmic axis: Plotly would draw a line to it from the left edge.
  const drawable = (epochs, log) => (log ? epochs.map((epoch) => epoch || null) : epochs);

  // All seeds in one trace, their lines broken by nulls.
  function thinLines(xOf, seeds, ink) {
    const x = [], y = [];
    seeds.forEach((curve, seed) => {
      x.push(...xOf(seed), null);
      y.push(...curve, null);
    });
    return line(x, y, null, { color: faded(ink, 0.3), width: 1 });
  }

  // The piecewise monotone fits of all seeds, dotted.
  function fitted(fits, ink, log) {
    const x = [], y = [];
    for (const fit of fits) {
      x.push(...drawable(fit.epoch, log), null);
      y.push(...fit.value, null);
    }
    return line(x, y, null, { color: faded(ink, 0.75), width: 1, dash: "1px,5px" });
  }

  function band(x, curve, ink) {
    const kept = x.map((_, i) => i).filter((i) => x[i] !== null), back = [...kept].reverse();
    return {
      ...line([...kept, ...back].map((i) => x[i]), [...kept.map((i) => curve.high[i]), ...back.map((i) => curve.low[i])], null, { width: 0 }),
      fill: "toself", fillcolor: faded(ink, 0.09),
    };
  }

  // Dots with their 95 % intervals along the horizontal axis.
  function marks(x, y, text, c, many, below, above) {
    return {
      type: "scatter", mode: "markers", x, y, hoverinfo: "text", hovertext: text,
      error_x: { type: "data", symmetric: false, array: above, arrayminus: below, color: c, thickness: 1.2, width: 3, visible: !!above },
      marker: { color: c, size: many ? 6 : 8, opacity: many ? 0.75 : 0.95, line: { color: css("--paper"), width: 1 } },
    };
  }

  // Within the first epoch there is something to see only where it was recorded in parts.
  const firstDrawn = (epochs) => Math.min(1, ...epochs.filter((epoch) => epoch > 0));

  function epochAxis(title, epochs, log, first = firstDrawn(epochs)) {
    const last = epochs[epochs.length - 1];
    const base = axis(title);
    if (!log) return { ...base, range: [0, last], separatethousands: true, nticks: 6 };
    let ticks = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6].filter((tick) => first <= tick && tick <= last);
    if (ticks.length < 2) ticks = [...new Set([first, last])];
    return {
      ...base, type: "log", range: [Math.log10(first), Math.log10(Math.max(last, 2 * first))], tickvals: ticks,
      ticktext: ticks.map((tick) => tick.toLocaleString("en")),
    };
  }

  function errorAxis(title, least, most, floor, reversed) {
    const candidates = [];
    for (let power = -7; power < 0; power++) for (const digit of most / least < 25 ? [1, 2, 5] : [1, 3]) candidates.push(Number(`${digit}e${power}`));
    let ticks = [...candidates, 1].filter((tick) => tick >= least && tick <= most);
    if (ticks.length > (document.querySelector(".plot").clientWidth < 420 ? 5 : 8)) ticks = ticks.filter((tick) => /^1/.test(tick.toExponential()));
    const zero = least <= floor;
    if (zero) ticks = [floor, ...ticks.filter((tick) => tick > 2 * floor)];
    const label = ticks.map((tick, i) => (zero && i === 0 ? "0" : `${Number((100 * tick).toPrecision(2))} %`));
    const range = [Math.log10(least / 1.12), Math.log10(most * 1.12)];
    return { ...axis(title), type: "log", tickvals: ticks, ticktext: label, range: reversed ? range.reverse() : range };
  }

  // The range of what is drawn, with some air.
  function extent(traces, key) {
    let low = Infinity, high = -Infinity;
    for (const trace of traces) {
      for (const value of trace[key]) {
        if (value === null) continue;
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
    return [low, high];
  }

  function aired([low, high]) {
    const air = 0.06 * (high - low || 0.1);
    return [low - air, high + air];
  }

  return { percent, written, line, drawable, thinLines, fitted, band, marks, firstDrawn, epochAxis, errorAxis, extent, aired };
})();
