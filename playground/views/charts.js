// Readings of charts: a rule and a small label follow the pointer and show each curve's value there. The charts are part
// of the view's value (see playground/content/templates/chart.html), which is replaced with the model or the language, so
// the listeners are on the root. The tab's other moving part is learning.js.

import { createLearning } from "./learning.js";
import { createToolkit, make } from "./toolkit.js";

export function start(host) {
  const { element } = host;
  const { compact, plain } = createToolkit(host);
  createLearning(host);

  function hideReading() {
    for (const node of element.querySelectorAll(".ax-reading")) node.remove();
  }

  function showReading(plot, pointerX) {
    hideReading();
    const { end, curves } = JSON.parse(plot.dataset.curves);
    if (!curves.length) return;
    const box = plot.getBoundingClientRect();
    const x = (end * (pointerX - box.left)) / box.width;
    const [at] = nearest(curves[0].points, x);
    const reading = make("div", "ax-reading");
    const sign = make("p", "", compact(at));
    reading.style.left = `${(100 * at) / end}%`;
    reading.classList.toggle("ax-left", at > end / 2);
    for (const { label, points } of curves) {
      const [where, value] = nearest(points, at);
      // A curve with few points has readings at its points only.
      if (Math.abs(where - at) <= end / 40) sign.append(make("span", "", `${label} ${plain(value)}`));
    }
    reading.append(sign);
    plot.append(reading);
  }

  element.addEventListener("pointermove", (event) => {
    const plot = event.target.closest(".ax-plot");
    if (plot) showReading(plot, event.clientX);
    else hideReading();
  });
  element.addEventListener("pointerleave", hideReading);
}

const nearest = (points, x) => points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
