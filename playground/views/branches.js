// The tree of branches: the generations that were branched off on this page, kept so that one can go back to each of them
// without generating it again.

import { make } from "./toolkit.js";

const MOST_KEPT = 40; // generations in the tree; then the oldest one without branches is dropped

export function createBranches(trace) {
  const { part, fill } = trace.toolkit;
  let kept = []; // {parent, describe, instead, events, button}, in the order in which they were made
  let current = null; // the one that is shown

  /** A generation begins: a branch of `from`, described by `describe()`, or without `from` the root of a new tree. */
  function begin({ from = null, describe = () => fill("branch_root"), instead = null } = {}) {
    if (!kept.includes(from)) kept = [];
    current = { parent: kept.length ? from : null, describe, instead, events: [], button: null };
    kept.push(current);
    if (kept.length > MOST_KEPT) drop();
    draw();
  }

  function drop() {
    const parents = new Set(kept.map(({ parent }) => parent));
    const oldest = kept.find((node) => !parents.has(node) && node !== current);
    kept = kept.filter((node) => node !== oldest);
  }

  /** Remembers the events of the shown generation, which is about to be replaced. */
  function keep() {
    if (!current || !trace.run) return;
    const end = trace.outcome ?? { kind: "end", reason: "stopped" };
    current.events = [trace.run, ...trace.tokens.map(({ step }) => step), end];
  }

  function show(node) {
    if (!node || node === current) return;
    trace.halt();
    keep();
    current = node;
    mark();
    trace.recall(node.events);
  }

  const undo = () => show(current?.parent);

  // ------------------------------------------------------------------------------------------------------------- drawing

  function draw() {
    const focused = part("branches").contains(document.activeElement);
    part("branches").replaceChildren(makeList(null));
    part("tree").hidden = kept.length < 2;
    mark();
    if (focused) current.button.focus();
  }

  function makeList(parent) {
    const list = make("ul", "");
    for (const node of kept.filter((each) => each.parent === parent)) {
      const item = make("li", "");
      node.button = make("button", "", node.describe());
      node.button.type = "button";
      node.button.addEventListener("click", () => show(node));
      item.append(node.button);
      if (kept.some((each) => each.parent === node)) item.append(makeList(node));
      list.append(item);
    }
    return list;
  }

  function mark() {
    for (const node of kept) node.button.setAttribute("aria-current", node === current);
    part("undo").disabled = !current?.parent;
  }

  part("undo").addEventListener("click", undo);
  trace.view.addEventListener("keydown", (event) => {
    if (event.key !== "z" || event.shiftKey || !(event.ctrlKey || event.metaKey) || !current?.parent) return;
    if (event.target.matches("input, textarea")) return;
    event.preventDefault();
    undo();
  });

  return { begin, keep, draw, current: () => current };
}
