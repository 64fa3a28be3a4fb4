// Moving through the text and the ribbon: the layer that colours the text, the token that is marked in both, which tokens
// an expert read, and the pointer and keys that choose.

import { seenOf } from "./form.js";
import { makeLayerChoice, makeRowLabels, paint } from "./routing.js";
import { indexAt, isAtEnd, KEY_STEPS, make } from "./toolkit.js";

export function createWalk(trace) {
  const { part, fill } = trace.toolkit;
  let pinned = -1; // the token chosen by click or key
  let shown = -1; // the token that is marked
  const following = { text: true, columns: true }; // the newest token stays in sight, unless the reader scrolled away

  function clear() {
    pinned = shown = -1;
    following.text = following.columns = true;
  }

  // ------------------------------------------------------------------------------------------------- the chosen layer

  function buildLayers() {
    const { run, layer } = trace;
    const choice = makeLayerChoice(run, "axion-layer", layer, fill, chooseLayer);
    const caption = make("span", "av-caption", fill(run.layers ? "layers" : "colours"));
    part("layers").replaceChildren(caption, ...choice, makeSureness());
    const labels = makeRowLabels(run);
    labels.forEach((label, row) => {
      label.classList.toggle("on", row === layer);
      label.addEventListener("click", () => chooseLayer(row));
    });
    part("rows").replaceChildren(...labels);
  }

  // Tokens can also be shaded by how sure the model was of them.
  function makeSureness() {
    const label = make("label", "", fill("sureness"));
    const radio = make("input", "");
    const { classList } = part("text");
    Object.assign(radio, { type: trace.run.layers ? "radio" : "checkbox", name: "axion-layer", checked: classList.contains("av-sure") });
    label.title = fill("sureness_hint");
    radio.addEventListener("change", () => classList.toggle("av-sure", radio.checked));
    label.prepend(radio);
    return label;
  }

  function chooseLayer(row) {
    if (row < 0 || row >= trace.run.layers) return;
    part("text").classList.remove("av-sure");
    trace.layer = row;
    part("layers").querySelectorAll("input").forEach((radio, index) => (radio.checked = index === row));
    [...part("rows").children].forEach((label, index) => label.classList.toggle("on", index === row));
    for (const { step, span } of trace.tokens) paint(span, step.e[row][0], trace.run.experts);
    trace.attention.showRow(row);
    trace.drawChosen();
  }

  // ------------------------------------------------------------------------------------------- one token, one expert

  function mark(index, on) {
    const token = trace.tokens[index];
    if (!token) return;
    token.span.classList.toggle("on", on);
    token.column.classList.toggle("on", on);
    token.column.setAttribute("aria-selected", on);
  }

  /** Marks a token and describes it in a line; -1 shows the hint instead. */
  function show(index) {
    mark(shown, false);
    shown = index;
    mark(index, true);
    const token = trace.tokens[index];
    if (!token) {
      part("token").replaceChildren(make("p", "av-hint", fill(trace.run?.layers === 0 ? "token_hint_dense" : "token_hint")));
      return;
    }
    const title = trace.popover.makeTitle(index);
    const looked = trace.attention.describe(index);
    if (looked) title.append(make("span", "", looked));
    part("token").replaceChildren(title, trace.popover.makeExperts(token.step));
    const spoken = [...title.children, part("token").lastChild].map((node) => node.textContent).join(", ");
    token.column.setAttribute("aria-label", spoken);
  }

  /** Dims all tokens that this expert did not read. */
  function showReaders(row, expert, description) {
    trace.view.classList.add("av-filtered");
    for (const { step, span, column } of trace.tokens) {
      const reads = step.e[row].includes(expert);
      span.classList.toggle("av-hit", reads);
      column.classList.toggle("av-hit", reads);
    }
    part("token").replaceChildren(make("p", "av-hint", description));
  }

  function hideReaders() {
    trace.view.classList.remove("av-filtered");
    show(pinned);
  }

  function pin(index) {
    pinned = Math.max(-1, Math.min(index, trace.tokens.length - 1));
    show(pinned);
    trace.drawChosen();
    if (pinned < 0) return;
    part("columns").setAttribute("aria-activedescendant", trace.tokens[pinned].column.id);
    reveal(pinned);
  }

  function reveal(index) {
    revealColumn(index);
    revealText(index);
  }

  // Only the box scrolls; scrollIntoView could move the page too.
  function revealColumn(index) {
    const [columns, { offsetLeft, offsetWidth }] = [part("columns"), trace.tokens[index].column];
    const inSight = offsetLeft >= columns.scrollLeft && offsetLeft + offsetWidth <= columns.scrollLeft + columns.clientWidth;
    if (!inSight) columns.scrollLeft = offsetLeft - columns.clientWidth / 2;
  }

  function revealText(index) {
    const [text, { offsetTop, offsetHeight }] = [part("text"), seenOf(trace.tokens[index].span)];
    const inSight = offsetTop >= text.scrollTop && offsetTop + offsetHeight <= text.scrollTop + text.clientHeight;
    if (!inSight) text.scrollTop = offsetTop - text.clientHeight / 2;
  }

  // ------------------------------------------------------------------------------------------------- keys and clicks

  function walk(event, name) {
    const { popover, tokens } = trace;
    if (!tokens.length) return;
    if (event.key in KEY_STEPS) {
      popover.close();
      pin(Math.max(0, pinned + KEY_STEPS[event.key]));
    } else if (event.key === "ArrowUp") chooseLayer(trace.layer - 1);
    else if (event.key === "ArrowDown") chooseLayer(trace.layer + 1);
    else if ((event.key === "Enter" || event.key === " ") && pinned >= 0) popover.open(pinned, placeOf(pinned, name), true);
    else if (event.key === "Escape" && popover.index() >= 0) popover.close();
    else if (event.key === "Escape") pin(-1);
    else return;
    event.preventDefault();
  }

  const placeOf = (index, name) => (name === "text" ? seenOf(trace.tokens[index].span) : trace.tokens[index].column);

  function listen(name) {
    const box = part(name);
    box.addEventListener("pointerover", (event) => {
      const index = indexAt(event);
      if (index < 0 || trace.popover.index() >= 0) return;
      show(index);
      if (name === "text") revealColumn(index);
      else revealText(index);
    });
    box.addEventListener("pointerleave", () => trace.popover.index() < 0 && show(pinned));
    box.addEventListener("click", (event) => {
      const index = indexAt(event);
      const again = index === trace.popover.index();
      trace.popover.close();
      if (trace.tour.isOpen()) pin(index < 0 ? pinned : index);
      else if (index < 0 || again) pin(-1);
      else trace.popover.open(index, placeOf(index, name), false);
    });
    box.addEventListener("keydown", (event) => walk(event, name));
    box.addEventListener("scroll", () => (following[name] = isAtEnd(box, name === "text" ? "y" : "x")));
  }

  listen("text");
  listen("columns");

  const chosen = () => pinned;

  return { clear, buildLayers, show, showAgain: () => show(shown), showReaders, hideReaders, pin, chosen, reveal, following };
}
