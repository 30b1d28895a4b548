"use strict";
(() => {
  const { plain, css, faded, axis, draw, drawn } = page;
  const data = JSON.parse(document.getElementById("data").textContent);
  const nClasses = data.classes.length;
  const nColors = 7;
  const shown = { layer: data.layers.length - 1, log: true, off: new Set() };
  // No error at all has no place on a logarithmic axis: it is drawn at half a point.
  const floor = 0.5 / data.points;
  const floored = (values) => values.map((value) => (value === null ? null : Math.max(value, floor)));
  const names = data.classes.map(plain);
  const percent = (share) => `${(100 * share).toPrecision(3)} %`;

  const color = (c) => css(`--c${c % nColors}`);
  const dash = (c) => ["solid", "8px,3px", "2px,3px"][Math.min(2, Math.floor(c / nColors))];

  const line = (x, y, text, look) => ({
    type: "scatter", mode: "lines", x, y, hoverinfo: text ? "text" : "skip", hovertext: text, line: look,
  });

  // Epoch 0 has no place on a logarithmic axis: Plotly would draw a line to it from the left edge.
  const drawable = (epochs) => (shown.log ? epochs.map((epoch) => epoch || null) : epochs);

  // All seeds of a class in one trace, their lines broken by nulls.
  function thinLines(xOf, curves, ink) {
    const x = [], y = [];
    curves.forEach((curve, seed) => {
      x.push(...xOf(seed), null);
      y.push(...curve, null);
    });
    return line(x, y, null, { color: faded(ink, 0.3), width: 1 });
  }

  function band(x, curve, ink) {
    const kept = x.map((_, i) => i).filter((i) => x[i] !== null), back = [...kept].reverse();
    return {
      ...line([...kept, ...back].map((i) => x[i]), [...kept.map((i) => curve.high[i]), ...back.map((i) => curve.low[i])], null, { width: 0 }),
      fill: "toself", fillcolor: faded(ink, 0.09),
    };
  }

  function marks(x, y, text, c, many) {
    return {
      type: "scatter", mode: "markers", x, y, hoverinfo: "text", hovertext: text,
      marker: { color: c, size: many ? 6 : 8, opacity: many ? 0.75 : 0.95, line: { color: css("--paper"), width: 1 } },
    };
  }

  const markText = (what, name, found) => found.epoch.map((epoch, i) =>
    `<b>${name}</b>, seed ${data.seeds[found.seed[i]]}<br>inversion at epoch ${epoch.toLocaleString("en")}` +
    `<br>${what} ${found.value[i].toFixed(4)}<br>training error ${percent(found.error[i])}`);

  const visible = () => data.classes.map((_, c) => c).filter((c) => !shown.off.has(c));

  function radiusTraces(path) {
    const curves = data.radius[shown.layer], found = data.inversion[shown.layer];
    const below = [], means = [], above = [];
    const epochs = drawable(data.epoch);
    const x = path ? floored(data.train_error.mean) : epochs;
    // A seed follows its own training error; without those (too many seeds) only the mean is drawn.
    const xOf = path ? (data.train_error.seeds ? (s) => floored(data.train_error.seeds[s]) : null) : () => epochs;
    for (const c of visible()) {
      const text = curves[c].mean.map((value, i) => `<b>${names[c]}</b><br>radius ${value.toFixed(4)}` +
        `<br>epoch ${data.epoch[i].toLocaleString("en")}<br>training error ${percent(data.train_error.mean[i])}`);
      if (curves[c].seeds && xOf) below.push(thinLines(xOf, curves[c].seeds, color(c)));
      if (curves[c].low && !path) below.push(band(x, curves[c], color(c)));
      means.push(line(x, curves[c].mean, text, { color: color(c), width: 2.6, dash: dash(c) }));
      above.push(marks(path ? floored(found[c].error) : found[c].epoch, found[c].value,
        markText("radius", names[c], found[c]), color(c), nClasses * data.seeds.length > 40));
    }
    return [...below, ...means, ...above];
  }

  function errorTraces() {
    const below = [], means = [], above = [];
    for (const [name, x, curve, look] of [
      ["training", data.epoch, data.train_error, "solid"], ["test", data.test_epoch, data.test_error, "2px,3px"],
    ]) {
      const text = curve.mean.map((value, i) => `<b>${name} error</b> ${percent(value)}<br>epoch ${x[i].toLocaleString("en")}`);
      const ink = css(name === "test" ? "--soft" : "--ink");
      const place = drawable(x);
      if (curve.seeds) below.push(thinLines(() => place, curve.seeds.map(floored), ink));
      if (curve.low) below.push(band(place, { low: floored(curve.low), high: floored(curve.high) }, ink));
      means.push(line(place, floored(curve.mean), text, { color: css("--ink"), width: 2.4, dash: look }));
    }
    for (const c of visible()) {
      const found = data.inversion[shown.layer][c];
      above.push(marks(found.epoch, floored(found.error), markText("radius", names[c], found), color(c), data.seeds.length * nClasses > 40));
    }
    return [...below, ...means, ...above];
  }

  function distanceTraces() {
    const below = [], means = [], above = [], epochs = drawable(data.epoch);
    for (const curve of data.distance[shown.layer]) {
      if (curve.of.some((c) => shown.off.has(c))) continue;
      const [a, b] = curve.of;
      const name = b === undefined ? `${names[a]} to the others` : `${names[a]} to ${names[b]}`;
      const ink = b === undefined ? color(a) : css("--soft");
      const text = curve.mean.map((value, i) =>
        `<b>${name}</b><br>distance ${value.toFixed(4)}<br>epoch ${data.epoch[i].toLocaleString("en")}`);
      if (curve.seeds) below.push(thinLines(() => epochs, curve.seeds, ink));
      if (curve.low) below.push(band(epochs, curve, ink));
      means.push(line(epochs, curve.mean, text, { color: color(a), width: 2.6, dash: b === undefined ? dash(a) : "solid" }));
      // A pair is striped in the colours of its two classes.
      if (b !== undefined) means.push(line(epochs, curve.mean, null, { color: color(b), width: 2.6, dash: "7px,7px" }));
      if (curve.inversion) {
        above.push(marks(curve.inversion.epoch, curve.inversion.value, markText("distance", name, curve.inversion), ink, false));
      }
    }
    return [...below, ...means, ...above];
  }

  function epochAxis() {
    const last = data.epoch[data.epoch.length - 1];
    const base = axis(data.epoch_axis);
    if (!shown.log) return { ...base, range: [0, last], separatethousands: true, nticks: 6 };
    // Within the first epoch there is something to see only where it was recorded in parts.
    const first = Math.min(1, ...data.epoch.filter((epoch) => epoch > 0));
    const ticks = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6].filter((tick) => first <= tick && tick <= last);
    return {
      ...base, type: "log", range: [Math.log10(first), Math.log10(Math.max(last, 2 * first))], tickvals: ticks,
      ticktext: ticks.map((tick) => tick.toLocaleString("en")),
    };
  }

  function errorAxis(title, least, most, reversed) {
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

  function render() {
    const radius = radiusTraces(false), path = radiusTraces(true), errors = errorTraces(), distance = distanceTraces();
    const radii = aired(extent([...radius, ...path], "y"));
    const [leastPath, mostPath] = extent(path, "x"), [least, most] = extent(errors, "y");
    // The same radii side by side, the same epochs one below the other.
    draw("plot-radius", radius, epochAxis(), { ...axis("gyration radius"), range: radii });
    draw("plot-path", path, errorAxis("training error", leastPath, mostPath, true), { ...axis("gyration radius"), range: radii });
    draw("plot-error", errors, epochAxis(), errorAxis("share misclassified", least, most, false));
    draw("plot-distance", distance, epochAxis(), { ...axis("distance between class means"), range: aired(extent(distance, "y")) });
  }

  function showLayer(layer) {
    shown.layer = layer;
    for (const body of document.querySelectorAll("tbody[data-layer]")) body.hidden = Number(body.dataset.layer) !== layer;
    for (const input of document.querySelectorAll("[data-choice=layer] input")) input.checked = Number(input.value) === layer;
    for (const [figure, answer] of Object.entries(data.answers[layer])) {
      const place = document.getElementById(`answer-${figure}`);
      if (place) place.firstChild.textContent = `${answer} `;
    }
  }

  document.addEventListener("change", (event) => {
    const input = event.target, choice = input.closest("[data-choice]")?.dataset.choice;
    if (choice === "layer") showLayer(Number(input.value));
    if (choice === "axis") shown.log = input.value === "log";
    if (choice === "classes") shown.off[input.checked ? "delete" : "add"](Number(input.value));
    if (choice === "group") {
      for (const group of document.querySelectorAll("[data-group]")) {
        group.hidden = input.value !== "all" && group.dataset.group !== input.value;
      }
    } else if (choice) {
      redraw();
    }
  });

  const keyBand = document.getElementById("key-band");
  if (keyBand && data.radius[0][0].low) {
    keyBand.hidden = false;
    document.getElementById("key-thin").hidden = true;
  }

  // Browsers restore controls on reload, not what they control.
  for (const input of document.querySelectorAll("input")) input.checked = input.defaultChecked;
  const redraw = drawn(render);
})();
