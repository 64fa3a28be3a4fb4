// The whole of a long text as a thin strip of its ribbon, with a window on it that shows which part is in sight. The window
// can be dragged and moved by keys, and it follows the text while that grows or is played again.

import { PALETTE } from "./routing.js";
import { FAR } from "./toolkit.js";

const ROW = 5; // pixels of a layer
const [LOWEST, HIGHEST] = [14, 30]; // of the strip
const GREY = "#7d8896"; // of a token without experts, in sight on light and dark

export function createOverview(trace) {
  const { part, fill, count } = trace.toolkit;
  const [strip, canvas, pane] = [part("overview"), part("overview-strip"), part("overview-window")];
  let frame = 0;
  let grip = null; // where in the window the pointer holds it, as a share of the strip

  // What scrolls: the ribbon to the side; without experts there is none, and the text scrolls down.
  const box = () => part(trace.run?.layers ? "columns" : "text");
  function sizes() {
    const at = box();
    const sideways = at === part("columns");
    return sideways
      ? { start: at.scrollLeft, seen: at.clientWidth, whole: at.scrollWidth, sideways }
      : { start: at.scrollTop, seen: at.clientHeight, whole: at.scrollHeight, sideways };
  }

  /** Draws the strip again in the next frame, because the text has grown or its box has changed. */
  function draw() {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(drawNow);
  }

  function drawNow() {
    const { seen, whole } = trace.run && trace.tokens.length ? sizes() : { seen: 0, whole: 0 };
    strip.hidden = whole <= seen + 1;
    if (strip.hidden) return;
    paintStrip();
    drawWindow();
  }

  function paintStrip() {
    const { run, tokens } = trace;
    const rows = Math.max(run.layers, 1);
    const height = Math.min(HIGHEST, Math.max(LOWEST, rows * ROW));
    const scale = devicePixelRatio;
    const width = strip.clientWidth;
    canvas.style.height = `${height}px`;
    Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(strip);
    const hues = Array.from({ length: PALETTE }, (_, expert) => style.getPropertyValue(`--e${expert + 1}`));
    const one = style.getPropertyValue("--ax-one-hue");
    const [across, down] = [width / tokens.length, height / rows];
    tokens.forEach(({ step }, index) => {
      for (let row = 0; row < rows; row++) {
        context.fillStyle = !run.layers ? GREY : run.experts > PALETTE ? one : hues[step.e[row][0]];
        context.globalAlpha = (step.prompt ? 0.45 : 1) * (run.experts > PALETTE ? 0.25 + (0.75 * step.e[row][0]) / run.experts : 1);
        context.fillRect(index * across, row * down, Math.max(across - 0.3, 0.5), down - 0.5);
      }
    });
  }

  function drawWindow() {
    if (strip.hidden) return;
    const { start, seen, whole } = sizes();
    pane.style.left = `${(100 * start) / whole}%`;
    pane.style.width = `${(100 * seen) / whole}%`;
    const [first, last] = inSight();
    pane.setAttribute("aria-valuemin", 1);
    pane.setAttribute("aria-valuemax", trace.tokens.length);
    pane.setAttribute("aria-valuenow", first + 1);
    const range = { first: count(first + 1), last: count(last + 1), count: count(trace.tokens.length) };
    pane.setAttribute("aria-valuetext", fill("overview_window", range));
  }

  const endOf = (index, sideways) => {
    const { span, column } = trace.tokens[index];
    return sideways ? column.offsetLeft + column.offsetWidth : span.offsetTop + span.offsetHeight;
  };

  // The first and the last token that the box shows.
  function inSight() {
    const { start, seen, sideways } = sizes();
    const { length } = trace.tokens;
    const firstAfter = (edge) => {
      let [low, high] = [0, length - 1];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (endOf(middle, sideways) > edge) high = middle;
        else low = middle + 1;
      }
      return low;
    };
    return [firstAfter(start + 1), firstAfter(start + seen - 1)];
  }

  // Scrolls so that the window starts at this share of the strip; the text goes along with the ribbon.
  function moveTo(share) {
    const { whole, sideways } = sizes();
    box()[sideways ? "scrollLeft" : "scrollTop"] = share * whole;
    if (sideways) showText();
    drawWindow();
  }

  function showText() {
    const [first, last] = inSight();
    const text = part("text");
    const { offsetTop } = trace.tokens[(first + last) >> 1].span;
    text.scrollTop = last === trace.tokens.length - 1 ? FAR : first === 0 ? 0 : offsetTop - text.clientHeight / 2;
  }

  const shareAt = ({ clientX }) => {
    const { left, width } = strip.getBoundingClientRect();
    return (clientX - left) / width;
  };

  strip.addEventListener("pointerdown", (event) => {
    const { start, seen, whole } = sizes();
    const at = shareAt(event);
    const held = at - start / whole;
    grip = held >= 0 && held <= seen / whole ? held : seen / whole / 2;
    strip.setPointerCapture(event.pointerId);
    moveTo(at - grip);
    pane.focus({ preventScroll: true });
    event.preventDefault();
  });
  strip.addEventListener("pointermove", (event) => grip !== null && moveTo(shareAt(event) - grip));
  for (const name of ["pointerup", "pointercancel"]) strip.addEventListener(name, () => (grip = null));

  pane.addEventListener("keydown", (event) => {
    const { start, seen, whole } = sizes();
    const token = whole / trace.tokens.length;
    const steps = { ArrowLeft: -token, ArrowRight: token, ArrowUp: -token, ArrowDown: token, PageUp: -seen, PageDown: seen };
    if (event.key in steps) moveTo((start + steps[event.key]) / whole);
    else if (event.key === "Home") moveTo(0);
    else if (event.key === "End") moveTo(1);
    else return;
    event.preventDefault();
  });

  for (const name of ["columns", "text"]) part(name).addEventListener("scroll", drawWindow, { passive: true });
  new ResizeObserver(draw).observe(trace.view);

  return { draw };
}
