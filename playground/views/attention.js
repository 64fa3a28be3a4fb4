// Where the chosen token looks: each earlier token of the text is shaded by the weight that one head, or the mean of all
// heads, gives it.

import { make } from "./toolkit.js";

const MEAN = "mean";
const LISTED = 8; // tokens that get the most weight are listed with it

export function createAttention(trace) {
  const { part, fill, visible, precisePercent } = trace.toolkit;
  const box = part("attention");
  let drawing = 0; // the last drawing that was begun; an answer may come after the next one
  let weights = []; // of the tokens up to the chosen one
  let shaded = 0; // how many tokens are shaded

  const pass = () => Number(part("attention-layer").value);
  const head = () => part("attention-head").value;

  function begin() {
    const { run } = trace;
    const kept = [pass(), head()];
    const layers = run.passes.map((_, index) => makeOption(index, fill("layer", { layer: spell(index) })));
    const heads = Array.from({ length: run.heads }, (_, index) => makeOption(index, fill("attention_one", { head: index + 1 })));
    part("attention-layer").replaceChildren(...layers);
    part("attention-head").replaceChildren(makeOption(MEAN, fill("attention_mean")), ...heads);
    part("attention-layer").value = kept[0] < run.passes.length ? kept[0] : 0;
    part("attention-head").value = kept[1] && Number(kept[1]) < run.heads ? kept[1] : MEAN;
  }

  // A layer, with the loop where it has several.
  function spell(index) {
    const [layer, loop] = trace.run.passes[index];
    const looped = trace.run.passes.some((other) => other[0] === layer && other[1] !== loop);
    return looped ? fill("looped_layer", { layer, loop }) : layer;
  }

  async function draw() {
    const mine = ++drawing;
    if (!trace.run || !box.open) return shade([]);
    const index = trace.subject();
    const found = await trace.closeup.inspect(index);
    if (mine !== drawing || !trace.run) return;
    const step = trace.tokens[index]?.step;
    const list = part("attention-list");
    shade(found ? weightsOf(found) : []);
    part("attention-title").textContent = step ? fill("attention_of", { token: index + 1, text: visible(step.t) }) : "";
    if (!found) return list.replaceChildren(make("li", "av-hint", fill("closeup_unavailable")));
    const ranked = weights.map((_, at) => at).sort((one, other) => weights[other] - weights[one] || one - other);
    list.replaceChildren(...ranked.slice(0, LISTED).map(makeItem));
  }

  /** Of each token, the weight that the chosen head gives it. */
  function weightsOf({ attention }) {
    return head() === MEAN ? meanOf(attention[pass()]) : attention[pass()][Number(head())];
  }

  function makeItem(at) {
    const item = make("li", "");
    const bar = make("i", "");
    bar.style.transform = `scaleX(${weights[at]})`;
    const { step } = trace.tokens[at];
    item.append(bar, make("q", "", visible(step.t)), make("small", "", fill("token", { token: at + 1 })));
    item.append(make("span", "", precisePercent(weights[at])));
    return item;
  }

  function shade(found) {
    weights = found;
    const most = Math.max(...weights, 0);
    for (let at = 0; at < Math.max(shaded, weights.length); at++) {
      const span = trace.tokens[at]?.span;
      if (!span) continue;
      span.classList.toggle("av-seen", at < weights.length);
      // the square root tells small weights apart too; the numbers are in the list and in the line of the token
      span.style.setProperty("--w", at < weights.length && most ? Math.sqrt(weights[at] / most) : 0);
    }
    shaded = weights.length;
    trace.view.classList.toggle("av-attending", weights.length > 0);
  }

  /** How much the chosen token looks at this one, in words; empty where nothing is shaded. */
  function describe(index) {
    if (!(index < weights.length)) return "";
    return fill("attention_gets", { weight: precisePercent(weights[index]), token: weights.length });
  }

  /** Shows the pass that a row of the routing belongs to. */
  function showRow(row) {
    if (!trace.run.layers) return;
    const [layer, loop] = trace.run.rows[row];
    part("attention-layer").value = trace.run.passes.findIndex((one) => one[0] === layer && one[1] === loop);
  }

  function clear() {
    drawing++;
    weights = [];
    shaded = 0;
    trace.view.classList.remove("av-attending");
    for (const name of ["attention-title", "attention-list"]) part(name).replaceChildren();
  }

  box.addEventListener("toggle", draw);
  for (const name of ["attention-layer", "attention-head"]) part(name).addEventListener("change", trace.drawChosen);

  return { begin, draw, clear, describe, showRow, pass };
}

function makeOption(value, text) {
  const option = make("option", "", text);
  option.value = value;
  return option;
}

/** The mean of several heads' weights. */
export function meanOf(heads) {
  return heads[0].map((_, at) => heads.reduce((sum, weights) => sum + weights[at], 0) / heads.length);
}
