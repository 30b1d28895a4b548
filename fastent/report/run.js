"use strict";
(() => {
  const { data, color, dash, chip, make, plain, css, axis, draw, drawn } = page;
  const { percent, written, line, drawable, thinLines, fitted, band, marks, firstDrawn, epochAxis, errorAxis, extent, aired } = curves;
  const nClasses = data.classes.length;
  const shown = { layer: data.n_layers - 1, log: true, off: new Set() };
  // No error at all has no place on a logarithmic axis: it is drawn at half a point.
  const floor = 0.5 / data.points;
  const floored = (values) => values.map((value) => (value === null ? null : Math.max(value, floor)));
  const names = data.classes.map(plain);

  const between = (value, below, above, say) => `${say(value)} (${say(value - below)} to ${say(value + above)})`;
  const epochText = (epoch) => epoch.toLocaleString("en");
  const markText = (what, name, found) => found.epoch.map((epoch, i) =>
    `<b>${name}</b>, seed ${data.seeds[found.seed[i]]}<br>inversion at epoch ` +
    between(epoch, found.epoch_below[i], found.epoch_above[i], epochText) +
    `<br>${what} ${found.value[i].toFixed(4)}<br>training error ` +
    between(found.error[i], found.error_below[i], found.error_above[i], percent));

  const visible = () => data.order.filter((c) => !shown.off.has(c));

  function radiusTraces(path) {
    const radii = data.radius[shown.layer], found = data.inversion[shown.layer];
    const below = [], means = [], above = [];
    const epochs = drawable(data.epoch, shown.log);
    const x = path ? floored(data.train_error.mean) : epochs;
    // A seed follows its own training error; without those (too many seeds) only the mean is drawn.
    const xOf = path ? (data.train_error.seeds ? (s) => floored(data.train_error.seeds[s]) : null) : () => epochs;
    for (const c of visible()) {
      const text = radii[c].mean.map((value, i) => `<b>${names[c]}</b><br>radius ${written(value)}` +
        `<br>epoch ${data.epoch[i].toLocaleString("en")}<br>training error ${percent(data.train_error.mean[i])}`);
      if (radii[c].seeds && xOf) below.push(thinLines(xOf, radii[c].seeds, color(c)));
      if (radii[c].low && !path) below.push(band(x, radii[c], color(c)));
      means.push(line(x, radii[c].mean, text, { color: color(c), width: 2.6, dash: dash(c) }));
      if (!path) below.push(fitted(data.fit[shown.layer][c], color(c), shown.log));
      const what = path ? "error" : "epoch";
      above.push(marks(path ? floored(found[c].error) : found[c].epoch, found[c].value, markText("radius", names[c], found[c]),
        color(c), nClasses * data.seeds.length > 40, found[c][`${what}_below`], found[c][`${what}_above`]));
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
      const place = drawable(x, shown.log);
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
    const below = [], means = [], above = [], epochs = drawable(data.epoch, shown.log);
    for (const curve of data.distance[shown.layer]) {
      if (curve.of.some((c) => shown.off.has(c))) continue;
      const [a, b] = curve.of;
      const name = b === undefined ? `${names[a]} to the others` : `${names[a]} to ${names[b]}`;
      const ink = b === undefined ? color(a) : css("--soft");
      const text = curve.mean.map((value, i) =>
        `<b>${name}</b><br>distance ${written(value)}<br>epoch ${data.epoch[i].toLocaleString("en")}`);
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

  // The epoch that the slider stands at, in every figure: where it lies on the horizontal axis, and the curves there.
  const moment = document.getElementById("moment"), readout = document.getElementById("readout");
  const spots = {
    "plot-radius": (i) => ({ x: data.epoch[i], at: visible().map((c) => [data.radius[shown.layer][c].mean[i], color(c)]) }),
    "plot-path": (i) => ({ ...spots["plot-radius"](i), x: Math.max(data.train_error.mean[i], floor) }),
    "plot-error": (i) => ({ x: data.epoch[i], at: [[Math.max(data.train_error.mean[i], floor), css("--ink")]] }),
    "plot-distance": (i) => ({
      x: data.epoch[i],
      at: data.distance[shown.layer].filter((curve) => !curve.of.some((c) => shown.off.has(c))).map((curve) => [curve.mean[i], color(curve.of[0])]),
    }),
  };

  // A circle of 6 pixels. As a shape of that type it would need corners left of its anchor, which logarithmic axes do not take.
  const ring = "M-6,0C-6,-3.3 -3.3,-6 0,-6C3.3,-6 6,-3.3 6,0C6,3.3 3.3,6 0,6C-3.3,6 -6,3.3 -6,0Z";

  function marker(id) {
    const { x, at } = spots[id](Number(moment.value));
    // Epoch 0 has no place on a logarithmic axis: it stands at the left edge.
    const place = id !== "plot-path" && shown.log ? Math.max(x, firstDrawn(data.epoch)) : x;
    const dots = at.filter(([y]) => y !== null).map(([y, ink]) => ({
      type: "path", path: ring, xref: "x", yref: "y", xsizemode: "pixel", ysizemode: "pixel", xanchor: place, yanchor: y, fillcolor: css("--paper"), line: { color: ink, width: 2 },
    }));
    return [{ type: "line", xref: "x", yref: "paper", x0: place, x1: place, y0: 0, y1: 1, line: { color: css("--soft"), width: 1.5 } }, ...dots];
  }

  function read() {
    const i = Number(moment.value), epoch = data.epoch[i].toLocaleString("en");
    const said = [["epoch", epoch], ["training error", percent(data.train_error.mean[i])]];
    if (data.test_epoch.length) {
      const away = data.test_epoch.map((test) => Math.abs(test - data.epoch[i])), j = away.indexOf(Math.min(...away));
      said.push([away[j] ? `test error, epoch ${data.test_epoch[j].toLocaleString("en")}` : "test error", percent(data.test_error.mean[j])]);
    }
    const radii = data.classes.map((name, c) => [data.radius[shown.layer][c].mean[i], name, c]).filter(([value, , c]) => value !== null && !shown.off.has(c));
    const many = radii.length > 10;
    if (many) radii.sort(([a], [b]) => a - b);
    for (const [value, name, c] of many ? [radii[0], radii.at(-1)] : radii) {
      said.push([`${many ? (c === radii[0][2] ? "least radius, " : "greatest radius, ") : "radius of "}${name}`, written(value), c]);
    }
    readout.replaceChildren(...said.map(([what, value, c]) => {
      const pair = make("div", ""), term = make("dt", "");
      if (c !== undefined) term.append(chip(c));
      term.append(what);
      pair.append(term, make("dd", value));
      return pair;
    }));
    moment.setAttribute("aria-valuetext", said.map(([what, value]) => `${what} ${value}`).join(", "));
  }

  let asked = 0;
  moment.addEventListener("input", () => {
    cancelAnimationFrame(asked);
    asked = requestAnimationFrame(() => {
      read();
      for (const id of Object.keys(spots)) {
        const place = document.getElementById(id);
        if (place) Plotly.relayout(place, { shapes: marker(id) });
      }
    });
  });

  function render() {
    const radius = radiusTraces(false), path = radiusTraces(true), errors = errorTraces(), distance = distanceTraces();
    const radii = aired(extent([...radius, ...path], "y"));
    const [leastPath, mostPath] = extent(path, "x"), [least, most] = extent(errors, "y");
    const epochs = epochAxis(data.epoch_axis, data.epoch, shown.log);
    read();
    // The same radii side by side, the same epochs one below the other.
    draw("plot-radius", radius, epochs, { ...axis("gyration radius"), range: radii }, marker("plot-radius"));
    draw("plot-path", path, errorAxis("training error", leastPath, mostPath, floor, true), { ...axis("gyration radius"), range: radii }, marker("plot-path"));
    draw("plot-error", errors, epochs, errorAxis("share misclassified", least, most, floor, false), marker("plot-error"));
    draw("plot-distance", distance, epochs, { ...axis("distance of class means"), range: aired(extent(distance, "y")) }, marker("plot-distance"));
  }

  function showLayer(layer) {
    shown.layer = layer;
    for (const body of document.querySelectorAll("[data-layer]")) body.hidden = Number(body.dataset.layer) !== layer;
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
    if (choice && choice !== "group") redraw();
  });

  const keyBand = document.getElementById("key-band");
  if (keyBand && data.radius[0][0].low) {
    keyBand.hidden = false;
    document.getElementById("key-thin").hidden = true;
  }

  // Browsers restore controls on reload, not what they control.
  for (const input of document.querySelectorAll("input")) input.checked = input.defaultChecked;
  moment.value = moment.defaultValue;
  const redraw = drawn(render);
})();
