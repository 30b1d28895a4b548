"use strict";
// The map: points in the colours and forms of their classes, rings around marked ones, and the point that is looked at.
(() => {
  const { data: { map }, make, plain, css, faded, axis, draw, drawn } = page;
  const section = document.getElementById("map");
  if (!section || !map) return;
  const places = map.rows.map((_, i) => i), rings = new Set(map.rings);
  const pictured = new Map((map.pictures ?? []).map((point, place) => [point, place]));
  const place = document.getElementById("plot-map"), panel = document.getElementById("map-point"), field = document.getElementById("map-row");
  const chosen = (name) => section.querySelector(`[data-choice=${name}] input:checked, select[data-choice=${name}]`)?.value ?? "";
  const marks = () => section.querySelector("[data-choice=rings] input")?.checked ?? false;
  const layout = () => map.layouts[Number(chosen("layout"))];
  let looked = null, hears = false;

  // Points in an order that mixes the classes, so that none lies over all others.
  const mixed = [...places].sort((a, b) => ((a * 2654435761) % 4294967296) - ((b * 2654435761) % 4294967296));
  const rank = new Map(map.told.map((c, i) => [c, i]));
  const form = (c) => ["circle", "square", "diamond"][Math.floor((rank.get(c) ?? 0) / 7)];

  function points(of, color, hovered) {
    const { x, y } = layout();
    return {
      type: "scatter", mode: "markers", x: of.map((i) => x[i]), y: of.map((i) => y[i]), customdata: of, hoverinfo: hovered ? "text" : "skip",
      hovertext: of.map((i) => `<b>${plain(map.names[map.codes[i]])}</b><br>row ${map.rows[i]}`),
      marker: { size: (of.length > 2000 ? 5 : 6.5) * (place.clientWidth < 500 ? 0.7 : 1), symbol: of.map((i) => form(map.codes[i])), color: of.map((i) => color(map.codes[i])), line: { width: 0 } },
    };
  }

  function around(of, size, color, width) {
    const { x, y } = layout();
    return {
      type: "scatter", mode: "markers", x: of.map((i) => x[i]), y: of.map((i) => y[i]), hoverinfo: "skip",
      marker: { size, symbol: "circle-open", color, line: { width } },
    };
  }

  const middle = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

  // Names at the middle of their classes, so that the map can be read without telling colours apart; none over another.
  function texts(classes) {
    const { x, y } = layout(), unit = Math.min(place.clientWidth - 70, place.clientHeight - 56) / 10000, kept = [];
    for (const c of classes) {
      const of = places.filter((i) => map.codes[i] === c), text = short(map.names[c]);
      if (!of.length) continue;
      const label = { text, x: middle(of.map((i) => x[i])), y: middle(of.map((i) => y[i])) };
      const covers = (other) => Math.abs(label.y - other.y) * unit < 15 && Math.abs(label.x - other.x) * unit < 4 * (text.length + other.text.length) + 4;
      if (!kept.some(covers)) kept.push(label);
    }
    return {
      type: "scatter", mode: "text", x: kept.map((label) => label.x), y: kept.map((label) => label.y), hoverinfo: "skip",
      text: kept.map((label) => `<b>${plain(label.text)}</b>`), textfont: { size: 14, color: css("--ink") },
    };
  }

  const short = (name) => (name.length > 16 ? `${name.slice(0, 15)}…` : name);

  function render() {
    const one = chosen("class"), on = (i) => one === "" || Number(one) === map.codes[i];
    const colors = map.told.map((_, i) => faded(css(`--c${i % 7}`), 0.75)), grey = faded(css("--soft"), 0.35);
    const traces = one === "" ? [] : [points(mixed.filter((i) => !on(i)), () => faded(css("--soft"), 0.2), false)];
    traces.push(points(mixed.filter(on), (c) => colors[rank.get(c)] ?? (one === "" ? grey : css("--ink")), true));
    if (marks()) traces.push(around(map.rings.filter(on), place.clientWidth < 500 ? 7 : 10, faded(css("--ink"), 0.6), 1));
    traces.push(texts(one === "" ? map.told : [Number(one)]));
    traces.push(around(looked === null ? [] : [looked], 17, css("--ink"), 3));
    const [across, up] = layout().axes, bare = { showticklabels: false, showgrid: false };
    draw("plot-map", traces, { ...axis(across), ...bare }, { ...axis(up), ...bare, scaleanchor: "x" });
    if (!hears) place.on("plotly_hover", ({ points: [{ customdata }] }) => tell(customdata));
    hears = true;
  }

  function picture(i) {
    const { width, height, columns } = map.cells, at = pictured.get(i), cell = make("div", "", { class: "picture", role: "img", "aria-label": `Picture of row ${map.rows[i]}` });
    cell.style.backgroundPosition = `${-(at % columns) * width}px ${-Math.floor(at / columns) * height}px`;
    return cell;
  }

  // What is known of a point, beside the map.
  function tell(i) {
    const list = make("dl", "", { class: "config" }), kept = layout().kept[i];
    const row = (name, text) => {
      const line = make("div", "");
      line.append(make("dt", name), make("dd", text));
      list.append(line);
    };
    row("row", String(map.rows[i]));
    row("class", map.names[map.codes[i]]);
    for (const { name, texts: said, of } of map.facts) row(name, said[of[i]]);
    if (kept >= 0) row("neighbours kept here", `${kept} of ${map.k}`);
    panel.replaceChildren(...(pictured.has(i) ? [picture(i)] : []), list);
    field.value = map.rows[i];
  }

  function lookAt(i) {
    looked = i;
    if (i === null) panel.replaceChildren(make("p", "There is no such row on the map.", { class: "note" }));
    else tell(i);
    redraw();
  }

  // The next of the points with rings, or of all, in the chosen class.
  function step(by) {
    const one = chosen("class"), from = looked ?? (by > 0 ? -1 : map.rows.length);
    const among = places.filter((i) => (one === "" || map.codes[i] === Number(one)) && (!marks() || !rings.size || rings.has(i)));
    const next = by > 0 ? among.find((i) => i > from) : among.findLast((i) => i < from);
    if (among.length) lookAt(next ?? (by > 0 ? among[0] : among[among.length - 1]));
  }

  section.addEventListener("click", ({ target }) => target.dataset.step && step(Number(target.dataset.step)));
  section.addEventListener("change", ({ target }) => {
    if (target === field) {
      const i = map.rows.indexOf(Number(field.value));
      return lookAt(field.value === "" || i < 0 ? null : i);
    }
    for (const each of section.querySelectorAll("[data-layout]")) each.hidden = each.dataset.layout !== (chosen("layout") || "0");
    if (looked !== null) tell(looked);
    redraw();
  });
  const redraw = drawn(render);
})();
