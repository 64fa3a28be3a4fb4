// How the routing of tokens is drawn: experts' colours, the cells of a ribbon, and the table of the experts' load.

import { make } from "./toolkit.js";

export const PALETTE = 8; // colours of experts; of more experts, all have one hue and are told apart by position

/** Few experts have a colour each. Many have one hue, and the place in the cell says which it is (--place, 0 to 1). */
export function paint(node, expert, experts) {
  if (experts <= PALETTE) node.style.setProperty("--c", `var(--e${expert + 1})`);
  else node.style.setProperty("--place", expert / (experts - 1));
}

/** The name of an expert: its layer, and its number there. All loops of a looped layer have the same experts. */
export const nameExpert = (run, row, expert) => `L${run.rows[row][0]}.E${expert + 1}`;

/** What stands before the experts of a looped layer: its row of the ribbon. */
export const loopLabel = (run, row) => (layerOf(run, row) === run.rows[row][0] ? "" : `L${layerOf(run, row)}: `);

/** The name of an expert, with the loop where its layer is looped. */
export function spellExpert(run, row, expert, fill) {
  const [layer, loop] = run.rows[row];
  const name = nameExpert(run, row, expert);
  return layerOf(run, row) === layer ? name : fill("looped_expert", { expert: name, loop });
}

/** The name of an expert, in its colour. */
export function makeExpert(tag, className, run, row, expert) {
  const name = make(tag, className, nameExpert(run, row, expert));
  paint(name, expert, run.experts);
  return name;
}

/** The head of a column with one expert of each layer, in their colour. */
export function makeExpertHead(className, expert, experts) {
  const head = make("b", className, `E${expert + 1}`);
  paint(head, expert, experts);
  return head;
}

/** A token of a text, underlined by the first expert of its layer `row`. */
export function makeToken(step, row, experts) {
  const span = make("span", step.prompt ? "av-tok av-prompt" : "av-tok", step.t);
  if (/^\n+$/.test(step.t)) span.classList.add("av-newline");
  if (step.e.length) paint(span, step.e[row][0], experts);
  return span;
}

/** A column of a ribbon: a cell per layer, whose colour is the first expert's and whose strength (--s) is its weight. */
export function makeColumn(className, step, experts) {
  const column = make("div", className);
  step.e.forEach((chosen, row) => {
    const cell = make("i", "");
    paint(cell, chosen[0], experts);
    cell.style.setProperty("--s", step.g[row][0] / step.g[row].reduce((sum, gate) => sum + gate, 0));
    column.append(cell);
  });
  return column;
}

/** What a row of a trace belongs to: the number of its layer, with the loop after a point where that layer is looped. */
export function layerOf(run, row) {
  const [layer, loop] = run.rows[row];
  return run.rows.some((other) => other[0] === layer && other[1] !== loop) ? `${layer}.${loop}` : layer;
}

/** What stands for `{layer}` in a text: 3, and "3, loop 2" where that layer is looped. */
export function spellLayer(run, row, fill) {
  const [layer, loop] = run.rows[row];
  return layerOf(run, row) === layer ? layer : fill("looped_layer", { layer, loop });
}

/** The labels of a ribbon's rows. */
export const makeRowLabels = (run) => Array.from({ length: run.layers }, (_, row) => make("span", "", `L${layerOf(run, row)}`));

/** Radio buttons that choose the layer which colours a text. */
export function makeLayerChoice(run, name, chosen, fill, choose) {
  return Array.from({ length: run.layers }, (_, row) => {
    const label = make("label", "", `L${layerOf(run, row)}`);
    const radio = make("input", "");
    Object.assign(radio, { type: "radio", name, checked: row === chosen });
    radio.setAttribute("aria-label", fill("layer", { layer: spellLayer(run, row, fill) }));
    radio.addEventListener("change", () => choose(row));
    label.prepend(radio);
    return label;
  });
}

/** Zero for every layer and expert. */
export const zeroCounts = (run) => Array.from({ length: run.layers }, () => Array.from({ length: run.experts }, () => 0));

/**
 * Builds the table of load in `grid`. A full bar is every token; the tick stands at the fair share, which is the experts
 * per token over all experts. Returns, by layer and expert, the cell with its bar and its label.
 */
export function buildLoadTable(grid, run) {
  grid.style.setProperty("--experts", run.experts);
  grid.style.setProperty("--fair", run.experts_per_token / run.experts);
  if (!run.layers) return [];
  grid.append(make("span", ""));
  for (let expert = 0; expert < run.experts; expert++) grid.append(makeExpertHead("", expert, run.experts));
  return Array.from({ length: run.layers }, (_, row) => {
    grid.append(make("span", "", `L${layerOf(run, row)}`));
    return Array.from({ length: run.experts }, (__, expert) => buildLoadCell(grid, expert, run.experts));
  });
}

function buildLoadCell(grid, expert, experts) {
  const root = make("div", "av-cell");
  const track = make("div", "");
  const bar = make("i", "");
  const label = make("span", "");
  root.setAttribute("role", "img");
  paint(root, expert, experts);
  track.append(bar);
  root.append(track, label);
  grid.append(root);
  return { root, bar, label };
}
