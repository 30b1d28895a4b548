"use strict";
(() => {
  const { data, plain, css, color, axis, draw, drawn } = page;
  const names = data.names.map(plain), places = names.map((_, i) => i);
  const short = data.names.map((name) => plain(name.length > 18 ? `${name.slice(0, 17)}…` : name));
  const written = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });

  function logarithmic(lines) {
    const values = lines.flatMap((line) => line.value).filter((value) => value !== null);
    const least = Math.floor(Math.log10(Math.min(...values))), most = Math.ceil(Math.log10(Math.max(...values)));
    const decades = Array.from({ length: most - least + 1 }, (_, i) => least + i);
    const ticks = decades.flatMap((power) => (decades.length > 4 ? [1] : [1, 2, 5]).map((digit) => Number(`${digit}e${power}`)));
    return { type: "log", tickvals: ticks, ticktext: ticks.map(written) };
  }

  function panel({ axis: title, log, lines }, i) {
    const traces = lines.map((line, l) => {
      const ink = line.chance ? css("--soft") : color(l);
      const uncertain = line.low.some((low, m) => low !== null && low < line.high[m]);
      const away = (bound) => line.value.map((value, m) => (line[bound][m] === null || value === null ? 0 : Math.abs(line[bound][m] - value)));
      return {
        type: "scatter", mode: line.chance ? "lines" : "lines+markers", x: places, y: line.value, connectgaps: true, hoverinfo: "text",
        hovertext: line.value.map((value, m) => (value === null ? "" : `<b>${plain(line.name)}</b> ${written(value)}<br>${names[m]}` +
          (uncertain && line.low[m] !== null ? `<br>${written(line.low[m])} to ${written(line.high[m])}` : ""))),
        line: { color: ink, width: line.chance ? 1.5 : 2.2, dash: line.chance ? { dotted: "dot", dashed: "dash" }[line.chance] : ["solid", "8px,3px", "2px,3px"][l % 3] },
        marker: { color: ink, size: 8, symbol: ["circle", "diamond", "square"][l % 3] },
        ...(uncertain ? { error_y: { type: "data", symmetric: false, array: away("high"), arrayminus: away("low"), color: ink, thickness: 1.5, width: 4 } } : {}),
      };
    });
    const across = { ...axis(""), tickvals: places, ticktext: short, range: [-0.4, places.length - 0.6], showgrid: false };
    draw(`plot-${i}`, traces, across, { ...axis(title), ...(log ? logarithmic(lines) : { nticks: 6 }) });
  }

  if (data.panels.length) drawn(() => data.panels.forEach(panel));
})();
