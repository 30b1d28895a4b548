"use strict";
// What the pages have in common: colours of the style sheet, axes, and figures that follow the page's width and colours.
const page = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const coarse = matchMedia("(pointer: coarse)").matches;
  // Plotly reads a little HTML in texts; names of classes are no HTML.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  let style;
  const css = (name) => style.getPropertyValue(name).trim();
  const faded = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");

  function axis(title) {
    return {
      title: { text: title, standoff: 8, font: { size: 13, color: css("--soft") } },
      color: css("--soft"), gridcolor: css("--faint"), linecolor: css("--faint"), zeroline: false, showline: false,
      ticks: "", tickfont: { size: 12 }, automargin: true, fixedrange: coarse,
    };
  }

  function draw(id, traces, xaxis, yaxis, shapes = []) {
    const place = document.getElementById(id);
    if (!place) return;
    const layout = {
      xaxis, yaxis, shapes, showlegend: false, hovermode: "closest", hoverdistance: 24, dragmode: coarse ? false : "zoom",
      width: place.clientWidth, height: place.clientHeight,
      margin: { l: 56, r: 14, t: 8, b: 48 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: style.fontFamily, size: 12, color: css("--ink") }, separators: ".,",
      hoverlabel: { bgcolor: css("--paper"), bordercolor: css("--soft"), align: "left", font: { size: 13, color: css("--ink") } },
    };
    Plotly.react(place, traces, layout, { displayModeBar: false, showTips: false });
  }

  // Draw now, and again whenever the page changes; returns the function that does it.
  function drawn(render) {
    const redraw = () => {
      style = getComputedStyle(document.body);
      render();
    };
    let width = 0;
    new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width === width) return;
      width = contentRect.width;
      requestAnimationFrame(redraw);
    }).observe(document.querySelector("main"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    // On paper always dark on white, at the width of a page.
    addEventListener("beforeprint", () => {
      document.documentElement.classList.add("printing");
      redraw();
    });
    addEventListener("afterprint", () => {
      document.documentElement.classList.remove("printing");
      redraw();
    });
    redraw();
    return redraw;
  }

  // The colours and dashes of classes, or of whatever else is numbered: those after the seventh are dashed, then dotted.
  const nColors = 7;
  const color = (c) => css(`--c${c % nColors}`);
  const dash = (c) => ["solid", "8px,3px", "2px,3px"][Math.min(2, Math.floor(c / nColors))];
  const chip = (c) => make("span", "", { class: `chip color-${c % nColors}${["", " dashed", " dotted"][Math.min(2, Math.floor(c / nColors))]}` });

  // Text of data goes into elements as text, never as HTML.
  function make(tag, text, attributes = {}) {
    const element = document.createElement(tag);
    element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  return { data, color, dash, chip, make, plain, css, faded, axis, draw, drawn };
})();
