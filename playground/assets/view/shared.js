// What every drawing of routing shares. The files of this folder are joined into the body of one function, which Gradio
// calls once, when the component appears, with `element` (the component's root), `props` (its value and texts), `watch`
// and `trigger`. Text that a model wrote is set through textContent and in no other way.

const PALETTE = 8; // so many experts have a colour of their own; beyond, position tells them apart

const part = (name) => element.querySelector(`[data-part="${name}"]`);
const fill = (key, values = {}) => props.texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
const percent = (share) => (share > 0 && share < 0.005 ? "<1%" : `${Math.round(100 * share)}%`);

function make(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

function formatBytes(count) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  for (; count >= 1000 && unit < units.length - 1; unit++) count /= 1000;
  return `${unit ? count.toFixed(1) : count} ${units[unit]}`;
}

// Few experts: a colour each. Many: one hue, and the place in the cell says which (--place, 0 to 1).
function paint(node, expert, experts) {
  if (experts <= PALETTE) node.style.setProperty("--c", `var(--e${expert + 1})`);
  else node.style.setProperty("--place", expert / (experts - 1));
}

// A cell of a ribbon: the colour is the first expert's, the strength (--s, 0 to 1) its part of the gates.
function routingCell(experts, gates, count) {
  const cell = make("i", "");
  paint(cell, experts[0], count);
  cell.style.setProperty("--s", gates[0] / gates.reduce((sum, gate) => sum + gate, 0));
  return cell;
}

// White space that could not be seen gets a sign.
function visible(text) {
  return text.replace(/\n/g, "↵").replace(/^ | $/g, "␣") || fill("no_text");
}
