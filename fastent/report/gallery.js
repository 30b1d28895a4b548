"use strict";
// Stragglers, or the points deepest in another class, in the order asked for; one of them opened, with who is near it in the data.
(() => {
  const { data, chip, make } = page;
  const order = document.getElementById("order"), sorted = document.getElementById("sorted");
  if (!order) return;
  const gallery = document.getElementById("gallery");
  const items = [...gallery.querySelectorAll("[data-point]")];
  const homes = new Map([...gallery.querySelectorAll("[data-home]")].map((home) => [Number(home.dataset.home), home]));
  const of = (item) => data.gallery[Number(item.dataset.point)];
  const names = {
    share: "seeds in which it is a straggler", wrong: "epochs at which it is misclassified", forgotten: "forgotten, mean over seeds",
    at_end: "seeds still wrong at the end", strangers: "neighbours of another class",
    doubt_at_inversion: "probability of other classes at the inversion", doubt_at_end: "probability of other classes at the end",
    nearness: "nearness of another class, hit / (hit + miss)",
  };
  const classes = data.names ?? data.classes;
  const called = (label, c) => classes[c] === label ? label : `${label}, ${classes[c]}`;
  const moments = { inversion: "At the inversion", end: "At the end" };
  const extremes = { hit: "nearest of its class", miss: "nearest of another class", "": "" };
  const away = (distance) => Number(distance.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
  let opened = null;

  function close() {
    if (!opened) return;
    opened.panel.remove();
    opened.button.setAttribute("aria-expanded", "false");
    opened = null;
  }

  function picture(place, said) {
    const { width, height, columns } = data.sheet, shown = make("span", "", { class: "picture", role: "img", "aria-label": said });
    shown.style.backgroundPosition = `${-(place % columns) * width}px ${-Math.floor(place / columns) * height}px`;
    return shown;
  }

  function table(headings, rows) {
    const whole = make("table", "", { class: "numbers listing" }), head = make("tr", ""), body = make("tbody", "");
    head.append(...headings.map((heading) => make("th", heading, { scope: "col" })));
    body.append(...rows.map(([first, ...rest]) => {
      const row = make("tr", "");
      row.append(make("th", first, { scope: "row" }), ...rest.map((cell) => make("td", cell)));
      return row;
    }));
    const top = make("thead", "");
    top.append(head);
    whole.append(top, body);
    return whole;
  }

  function neighbors(point) {
    const near = point.near.map(([row, label, c, distance, place, which]) => {
      const other = c !== point.c;
      return { row, label, c, distance, place, other, said: extremes[which] || (other ? "another class" : "") };
    });
    if (!data.sheet) {
      return table(["Neighbour, row", "Label", "Class", "Distance", "Which"],
        near.map(({ row, label, c, distance, said }) => [row, label, classes[c], away(distance), said]));
    }
    const list = make("ul", "", { class: "cells" });
    list.append(...near.map(({ row, label, c, distance, place, other, said }) => {
      const cell = make("li", "", { class: other ? "cell other" : "cell" }), caption = make("span", "", { class: "caption" });
      const color = chip(c);
      color.title = classes[c];
      caption.append(color, make("b", data.parity ? label : classes[c]), make("br", ""), `at ${away(distance)}`, make("br", ""), make("small", `row ${row}`));
      if (said) caption.append(make("br", ""), make("small", said));
      if (place !== null) cell.append(picture(place, `Label ${called(label, c)}, row ${row}`));
      cell.append(caption);
      return cell;
    }));
    return list;
  }

  function known(point) {
    const panel = make("div", "", { class: "panel", role: "region", "aria-label": `Row ${point.row}` });
    const title = make("h4", ""), said = make("dl", "", { class: "readout" });
    title.append(chip(point.c), `Row ${point.row}, label ${called(point.label, point.c)}`);
    for (const [key, written] of Object.entries(point.said)) {
      const pair = make("div", "");
      pair.append(make("dt", names[key]), make("dd", written));
      said.append(pair);
    }
    panel.append(title, said);
    if (point.predictions.length) {
      panel.append(make("h4", "What the networks take it for"), table(["When", "Predicted", "Its probability", "Probability of its own class"],
        point.predictions.map(([when, c, probability, own]) => [moments[when], classes[c], probability, own])));
    }
    if (point.features.length) {
      panel.append(make("h4", "Where it lies farthest from its class"), table(["Feature", "Its value", "Mean of its class", "Standard deviations away"],
        point.features));
    }
    if (point.near.length) panel.append(make("h4", gallery.dataset.near), neighbors(point));
    return panel;
  }

  function open(button) {
    const item = button.closest("[data-point]"), again = opened?.button === button;
    close();
    if (again) return;
    const list = item.tagName === "LI", panel = make(list ? "li" : "tr", "", { class: "detail" });
    const inside = list ? panel : panel.appendChild(make("td", "", { colspan: "7" }));
    inside.append(known(of(item)));
    item.after(panel);
    button.setAttribute("aria-expanded", "true");
    opened = { button, panel };
  }

  function arrange() {
    close();
    const key = order.value, flat = key !== "class", shown = gallery.querySelector("[data-choice=group] input:checked")?.value ?? "all";
    const value = (item) => of(item).scores[key] ?? -1;
    const most = Math.max(1, ...items.map(value));
    for (const item of flat ? [...items].sort((a, b) => value(b) - value(a)) : items) {
      (flat ? sorted : homes.get(of(item).c)).append(item);
      item.hidden = shown !== "all" && String(of(item).c) !== shown;
      const place = item.querySelector(".score");
      if (!place) continue;
      const asked = flat ? key : gallery.dataset.first, found = of(item).scores[asked];
      place.textContent = of(item).said[asked];
      item.querySelector(".share > span").style.width = `${(100 * (found ?? 0)) / (flat ? most : 1)}%`;
    }
    sorted.hidden = !flat;
    gallery.classList.toggle("flat", flat);
    for (const group of gallery.querySelectorAll("[data-group]")) group.hidden = shown !== "all" && group.dataset.group !== shown;
  }

  gallery.addEventListener("click", (event) => {
    const button = event.target.closest("[data-open]");
    if (button) open(button);
  });
  gallery.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !opened) return;
    const { button } = opened;
    close();
    button.focus();
  });
  gallery.addEventListener("change", arrange);
  order.value = "class";
})();
