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

// Values may come faster than the screen is drawn: `read` is called once for all that came before a frame.
function watchValue(read) {
  let drawing = false;
  watch("value", () => {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      read();
    });
  });
}

// A full bar is every token; the tick stands at the fair share, which is experts per token ÷ experts. Returns for each
// layer and expert the cell, its bar and its label.
function buildLoadTable(grid, run) {
  grid.style.setProperty("--experts", run.experts);
  grid.style.setProperty("--fair", run.experts_per_token / run.experts);
  if (!run.layers) return [];
  grid.append(make("span", ""));
  for (let expert = 0; expert < run.experts; expert++) {
    const head = make("b", "", `E${expert + 1}`);
    paint(head, expert, run.experts);
    grid.append(head);
  }
  return Array.from({ length: run.layers }, (_, row) => {
    grid.append(make("span", "", `L${run.first_layer + row}`));
    return Array.from({ length: run.experts }, (_, expert) => buildLoadCell(grid, expert, run.experts));
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

// Gradio drops what is asked for while it takes back what was stopped, so a wish waits until that is over: until `rest`,
// or for so long as the server may need at the most, should nothing have been there to take back.
const LEAVING_MS = 2000;
const wishes = { waiting: null, leaving: 0 };

function submit(wish) {
  if (wishes.leaving) wishes.waiting = wish;
  else trigger("submit", wish);
}

function leave() {
  clearTimeout(wishes.leaving);
  wishes.leaving = setTimeout(rested, LEAVING_MS);
}

function rested() {
  const wish = wishes.waiting;
  clearTimeout(wishes.leaving);
  Object.assign(wishes, { waiting: null, leaving: 0 });
  if (wish) trigger("submit", wish);
}
