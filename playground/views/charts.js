// A rule and a small sign follow the pointer over a chart: what each curve says there. The charts are in the value, which
// another model or language replaces, so the listeners sit on the root.

const shortly = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 4 });

function nearest(points, x) {
  return points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
}

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
  const sign = make("p", "", shortly.format(at));
  reading.style.left = `${(100 * at) / end}%`;
  reading.classList.toggle("ax-left", at > end / 2);
  for (const { label, points } of curves) {
    const [where, value] = nearest(points, at);
    // A curve with few points is told at its own; away from them it says nothing.
    if (Math.abs(where - at) <= end / 40) sign.append(make("span", "", `${label} ${value}`));
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
