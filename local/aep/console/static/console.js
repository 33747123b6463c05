// Live parts that HTML has no element for: curves, times in the reader's zone, and buttons that copy.
(() => {
  "use strict";

  const drawn = new WeakMap();

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  function draw(element) {
    const chart = JSON.parse(element.dataset.chart);
    if (drawn.has(element) || !window.uPlot || chart.x.length < 2) return;
    const muted = getComputedStyle(element).getPropertyValue("--pico-muted-color").trim();
    const grid = getComputedStyle(element).getPropertyValue("--pico-muted-border-color").trim();
    const axis = {stroke: muted, grid: {stroke: grid, width: 1}, ticks: {stroke: grid, width: 1}};
    const options = {
      width: element.clientWidth,
      height: 200,
      axes: [axis, {...axis, size: 60}],
      scales: {y: {range: (_, low, high) => [0, chart.top || Math.max(high * 1.1, 1)]}},
      series: [
        {},
        ...chart.series.map((each) => ({label: each.label, stroke: color(each.color), width: 2, points: {size: 5}})),
      ],
    };
    const plot = new uPlot(options, [chart.x, ...chart.series.map((each) => each.y)], element);
    drawn.set(element, plot);
    new ResizeObserver(() => plot.setSize({width: element.clientWidth, height: 200})).observe(element);
  }

  function localTimes(root) {
    const form = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "long"});
    for (const each of root.querySelectorAll("time[datetime]")) {
      each.title = form.format(new Date(each.dateTime));
    }
  }

  function prepare(root) {
    if (root.querySelectorAll === undefined) return;
    root.querySelectorAll("[data-chart]").forEach(draw);
    localTimes(root);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button === null) return;
    const source = document.getElementById(button.dataset.copy);
    navigator.clipboard.writeText(source.textContent).then(() => { button.textContent = "Copied"; });
  });
  document.addEventListener("DOMContentLoaded", () => prepare(document));
  document.addEventListener("htmx:afterSettle", (event) => prepare(event.target));
  document.addEventListener("htmx:sseMessage", () => prepare(document));
})();
