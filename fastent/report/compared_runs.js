"use strict";
(() => {
  const { data, plain, color, axis, draw, drawn } = page;
  const { percent, written, line, drawable, thinLines, band, marks, epochAxis, errorAxis, extent, aired } = curves;
  const names = data.names.map(plain), classes = data.classes.map(plain);
  const shown = { c: 0, log: true, off: new Set() };
  const visible = () => data.runs.map((run, r) => [run, r]).filter(([run, r]) => !shown.off.has(r) && run.radius[shown.c]);
  // No error at all has no place on a logarithmic axis: it is drawn at half a point of the largest run.
  const floor = 0.5 / Math.max(...data.runs.map((run) => run.points));
  const floored = (values) => values.map((value) => (value === null ? null : Math.max(value, floor)));
  // Runs that follow each other differ in colour and in dashes, and only after 21 both come again.
  const look = (r, width) => ({ color: color(r), width, dash: ["solid", "8px,3px", "2px,3px"][r % 3] });

  function radiusTraces(path) {
    const below = [], means = [], above = [];
    for (const [run, r] of visible()) {
      const curve = run.radius[shown.c], found = run.inversion[shown.c], epochs = drawable(run.epoch, shown.log);
      const x = path ? floored(run.train_error.mean) : epochs;
      const xOf = path ? (run.train_error.seeds ? (s) => floored(run.train_error.seeds[s]) : null) : () => epochs;
      const text = curve.mean.map((value, i) => `<b>${names[r]}</b>, class ${classes[shown.c]}<br>radius ${written(value)}` +
        `<br>epoch ${run.epoch[i].toLocaleString("en")}<br>training error ${percent(run.train_error.mean[i])}`);
      if (curve.seeds && xOf) below.push({ ...thinLines(xOf, curve.seeds, color(r)), opacity: 0.6 });
      if (curve.low && !path) below.push(band(x, curve, color(r)));
      means.push(line(x, curve.mean, text, look(r, 2.6)));
      above.push(marks(path ? floored(found.error) : found.epoch, found.value, found.epoch.map((epoch, i) =>
        `<b>${names[r]}</b>, seed ${run.seeds[found.seed[i]]}<br>inversion at epoch ${epoch.toLocaleString("en")}<br>training error ${percent(found.error[i])}`), color(r), true));
    }
    return [...below, ...means, ...above];
  }

  function turns() {
    const n = data.runs.length, all = [0];
    const traces = data.runs.flatMap((run, r) => {
      if (shown.off.has(r)) return [];
      const at = run.turn.map((turn, c) => [turn, c]).filter(([turn]) => turn);
      all.push(...at.flatMap(([turn]) => turn));
      return [{
        type: "scatter", mode: "markers", x: at.map(([turn]) => 100 * turn[0]), y: at.map(([, c]) => c + 0.5 * ((r + 0.5) / n - 0.5)), hoverinfo: "text",
        hovertext: at.map(([turn, c]) => `<b>${names[r]}</b>, class ${classes[c]}<br>${percent(turn[0])}` + (turn.length > 1 ? `<br>${percent(turn[1])} to ${percent(turn[2])}` : "")),
        marker: { color: color(r), size: 9, symbol: ["circle", "diamond", "square"][r % 3] },
        error_x: {
          type: "data", symmetric: false, color: color(r), thickness: 1.8, width: 4,
          array: at.map(([turn]) => (turn.length > 1 ? 100 * (turn[2] - turn[0]) : 0)),
          arrayminus: at.map(([turn]) => (turn.length > 1 ? 100 * (turn[0] - turn[1]) : 0)),
        },
      }];
    });
    const places = classes.map((_, c) => c);
    draw("plot-turn", traces, { ...axis("training error at the inversion"), ticksuffix: " %", range: [0, 106 * Math.max(...all) || 100] },
      { ...axis(""), tickvals: places, ticktext: classes, range: [classes.length - 0.5, -0.5] });
  }

  function render() {
    const radius = radiusTraces(false), path = radiusTraces(true);
    if (visible().length) {
      const radii = aired(extent([...radius, ...path], "y")), [least, most] = extent(path, "x");
      const longest = visible().map(([run]) => run.epoch).reduce((a, b) => (a.at(-1) >= b.at(-1) ? a : b));
      draw("plot-radius", radius, epochAxis(data.runs[0].epoch_axis, longest, shown.log), { ...axis("gyration radius"), range: radii });
      draw("plot-path", path, errorAxis("training error", least, most, floor, true), { ...axis("gyration radius"), range: radii });
    } else {
      draw("plot-radius", [], axis("epoch"), axis("gyration radius"));
      draw("plot-path", [], axis("training error"), axis("gyration radius"));
    }
    turns();
  }

  document.addEventListener("change", (event) => {
    const input = event.target, choice = input.closest("[data-choice]")?.dataset.choice;
    if (choice === "class") shown.c = Number(input.value);
    if (choice === "axis") shown.log = input.value === "log";
    if (choice === "runs") shown.off[input.checked ? "delete" : "add"](Number(input.value));
    redraw();
  });

  for (const input of document.querySelectorAll("input")) input.checked = input.defaultChecked;
  const redraw = drawn(render);
})();
