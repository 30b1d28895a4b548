"use strict";
(() => {
  const { data, color, dash, plain, make, css, axis, draw, drawn } = page;
  const { written, percent, line, marks, epochAxis, extent, aired } = curves;
  const places = data.moment.map((_, i) => i), layers = data.layers.map(plain), names = data.classes.map(plain);
  const shown = { statistic: 0, layer: layers.length - 1, log: true, each: false };
  const slider = document.getElementById("moment"), readout = document.getElementById("readout");
  const said = (value) => (value === null ? "–" : Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 }));
  const short = (text) => plain(text.length > 18 ? `${text.slice(0, 17)}…` : text);
  const look = (i) => ({ color: color(i), width: 2.4, dash: dash(i) });
  // A logarithmic axis begins with the first moment above 0; left of that, 0 has a place of its own.
  const first = data.moment.find((moment) => moment > 0) ?? 1, zero = data.moment[0] === 0 ? first / 3 : null;
  const placed = () => data.moment.map((moment) => (shown.log && moment === 0 ? zero : moment));
  // One or two records make no line that could be seen.
  const dotted = (trace) => (places.length < 3 ? { ...trace, mode: "lines+markers" } : trace);

  function heatMap() {
    const { name, values, log } = data.statistics[shown.statistic];
    const powers = log ? values.map((row) => row.map((value) => (value === null ? null : Math.log10(value)))) : values;
    const cells = shown.each ? powers.map(scaled) : powers;
    const text = values.map((row, l) => row.map((value, i) => `<b>${layers[l]}</b>, ${data.unit} ${plain(data.names[i])}<br>${plain(name)} ${said(value)}`));
    const ink = css("--c0");
    const trace = {
      type: "heatmap", x: places, y: layers.map((_, l) => l), z: cells, hoverinfo: "text", text, hoverongaps: false,
      colorscale: [[0, css("--faint")], [1, ink]], xgap: places.length > 60 ? 0 : 1, ygap: 1,
      colorbar: { thickness: 10, outlinewidth: 0, tickfont: { size: 12, color: css("--soft") }, nticks: 5, ...decades(log) },
      showscale: !shown.each && document.querySelector("main").clientWidth > 600,
    };
    return [trace, ...turnsOnMap()];
  }

  const decades = (log) => (log ? { tickprefix: "10<sup>", ticksuffix: "</sup>" } : {});

  // From 0 for the least value of a layer to 1 for its largest.
  function scaled(row) {
    const [low, high] = extent([{ row }], "row");
    return row.map((value) => (value === null ? null : high > low ? (value - low) / (high - low) : 0.5));
  }

  // The classes that turn in the same cell are one dot.
  function turnsOnMap() {
    const cells = new Map();
    data.inversion.forEach((row, l) => row.forEach((found, c) => {
      if (!found) return;
      const key = `${found.at}/${l}`;
      cells.set(key, { at: found.at, l, of: [...(cells.get(key)?.of ?? []), names[c]] });
    }));
    document.getElementById("key-turns").hidden = !cells.size;
    const all = [...cells.values()];
    return [{
      type: "scatter", mode: "markers", x: all.map(({ at }) => at), y: all.map(({ l }) => l), hoverinfo: "text",
      hovertext: all.map(({ at, l, of }) => `<b>${layers[l]}</b>, ${data.unit} ${plain(data.names[at])}<br>inversion of ${of.length} class${of.length > 1 ? "es" : ""}: ` +
        of.slice(0, 12).join(", ") + (of.length > 12 ? ", …" : "")),
      marker: { size: all.map(({ of }) => 7 + Math.min(9, 2 * (of.length - 1))), color: css("--c1"), opacity: 1, line: { color: css("--paper"), width: 1.5 } },
    }];
  }

  function layerTraces() {
    const { name, values } = data.statistics[shown.statistic], x = placed();
    return layers.map((layer, l) => dotted(line(x, values[l], values[l].map((value, i) =>
      `<b>${layer}</b><br>${plain(name)} ${said(value)}<br>${data.unit} ${plain(data.names[i])}`), look(l))));
  }

  function radiusTraces() {
    const x = placed(), below = [], above = [];
    names.forEach((name, c) => {
      const radii = data.radius[shown.layer][c], found = data.inversion[shown.layer][c];
      below.push(dotted(line(x, radii, radii.map((value, i) => `<b>${name}</b><br>radius ${written(value)}<br>${data.unit} ${plain(data.names[i])}`), look(c))));
      if (!found) return;
      const error = found.error === null ? "" : `<br>error ${percent(found.error)}`;
      above.push(marks([found.epoch], [found.value], [`<b>${name}</b><br>inversion at ${data.unit} ${said(found.epoch)} (${said(found.low)} to ${said(found.high)})` +
        `<br>radius ${written(found.value)}${error}`], color(c), names.length > 40, [found.epoch - found.low], [found.high - found.epoch]));
    });
    return [...below, ...above];
  }

  const at = (place) => [{ type: "line", xref: "x", yref: "paper", x0: place, x1: place, y0: 0, y1: 1, line: { color: css("--soft"), width: 1.5 } }];

  function along() {
    const base = epochAxis(data.unit, data.moment, shown.log, first);
    if (!shown.log || zero === null) return base;
    return {
      ...base, range: [Math.log10(zero / 1.15), base.range[1]],
      tickvals: [zero, ...base.tickvals], ticktext: ["0", ...base.ticktext],
    };
  }

  function render() {
    const moment = Number(slider.value), across = along(), line_ = at(placed()[moment]);
    const every = Math.ceil(places.length / (document.querySelector("main").clientWidth < 600 ? 4 : 10));
    const ticks = places.filter((i) => i % every === 0);
    draw("plot-heat", heatMap(), {
      ...axis(data.unit), tickvals: ticks, ticktext: ticks.map((i) => short(data.names[i])), showgrid: false, range: [-0.5, places.length - 0.5],
    }, { ...axis(""), tickvals: layers.map((_, l) => l), ticktext: data.layers.map(short), showgrid: false, range: [layers.length - 0.5, -0.5] }, at(moment));
    const { name, log } = data.statistics[shown.statistic], traces = layerTraces();
    draw("plot-statistic", traces, across, { ...axis(plain(name)), ...(log ? { type: "log" } : { range: aired(extent(traces, "y")) }) }, line_);
    const radii = radiusTraces();
    draw("plot-radius", radii, across, { ...axis("gyration radius"), range: aired(extent(radii, "y")) }, line_);
    data.lines.forEach(({ name: what, values }, i) => {
      const trace = dotted(line(placed(), values, values.map((value, m) => `<b>${plain(what)}</b> ${said(value)}<br>${data.unit} ${plain(data.names[m])}`), look(6)));
      draw(`plot-line-${i}`, [trace], across, { ...axis(plain(what)), range: aired(extent([trace], "y")) }, line_);
    });
    read(moment);
  }

  function read(moment) {
    const { name, values } = data.statistics[shown.statistic];
    const pairs = [[data.unit, data.names[moment]], ...data.layers.map((layer, l) => [`${name}, ${layer}`, said(values[l][moment])])];
    readout.replaceChildren(...pairs.slice(0, 25).map(([what, value]) => {
      const entry = make("div", "");
      entry.append(make("dt", what, { title: what }), make("dd", value));
      return entry;
    }));
    slider.setAttribute("aria-valuetext", `${data.unit} ${data.names[moment]}`);
  }

  function show(kind, value) {
    shown[kind] = value;
    for (const part of document.querySelectorAll(`[data-${kind}]`)) part.hidden = Number(part.dataset[kind]) !== value;
  }

  document.addEventListener("change", ({ target }) => {
    if (target.id === "statistic" || target.id === "layer") show(target.id, Number(target.value));
    if (target.name === "axis") shown.log = target.value === "log";
    if (target.name === "colours") shown.each = target.value === "each";
    redraw();
  });
  slider.addEventListener("input", () => requestAnimationFrame(redraw));

  // Browsers restore controls on reload, not what they control.
  for (const input of document.querySelectorAll("input")) input.checked = input.defaultChecked;
  for (const select of document.querySelectorAll("select")) for (const option of select.options) option.selected = option.defaultSelected;
  slider.value = slider.defaultValue;
  const redraw = drawn(render);
})();
