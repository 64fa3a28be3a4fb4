// Walking through the text and the ribbon: the layer that colours the text, the token that is marked in both, who reads
// what, and the pointer and the keys that choose.

let layer = 0; // colours the text
let pinned = -1; // the token chosen by click or key
let shown = -1; // the token that is marked

// --------------------------------------------------------------------------------------------------- the chosen layer

function buildLayers() {
  const group = part("layers");
  group.replaceChildren();
  part("rows").replaceChildren();
  if (run.layers) group.append(make("span", "av-caption", fill("layers")));
  for (let row = 0; row < run.layers; row++) {
    const name = `L${run.first_layer + row}`;
    const label = make("label", "", name);
    const radio = make("input", "");
    Object.assign(radio, { type: "radio", name: "axion-layer", checked: row === layer });
    radio.setAttribute("aria-label", fill("layer", { layer: run.first_layer + row }));
    radio.addEventListener("change", () => chooseLayer(row));
    label.prepend(radio);
    group.append(label);

    const rowLabel = make("span", row === layer ? "on" : "", name);
    rowLabel.addEventListener("click", () => chooseLayer(row));
    part("rows").append(rowLabel);
  }
}

function chooseLayer(row) {
  if (row < 0 || row >= run.layers) return;
  layer = row;
  part("layers").querySelectorAll("input").forEach((radio, index) => (radio.checked = index === row));
  [...part("rows").children].forEach((label, index) => label.classList.toggle("on", index === row));
  for (const { step, span } of tokens) paint(span, step.e[row][0], run.experts);
}

// -------------------------------------------------------------------------------------- one token, and who reads what

function mark(index, on) {
  const token = tokens[index];
  if (!token) return;
  token.span.classList.toggle("on", on);
  token.column.classList.toggle("on", on);
  token.column.setAttribute("aria-selected", on);
}

// Marks a token and says in a line what it is; -1 says how to get there.
function showToken(index) {
  mark(shown, false);
  shown = index;
  mark(index, true);
  const box = part("token");
  if (!tokens[index]) {
    box.replaceChildren(make("p", "av-hint", fill("token_hint")));
    return;
  }
  const { step, column } = tokens[index];
  const title = make("p", "av-token-title");
  title.append(quote(step), make("span", "", fill("token", { token: step.i + 1 })));
  title.append(make("span", "", describeChance(step)));
  if (describeMark(index)) title.append(make("span", "", describeMark(index)));
  box.replaceChildren(title, describeExperts(step));
  column.setAttribute("aria-label", [...title.children, box.lastChild].map((node) => node.textContent).join(", "));
}

function describeExperts(step) {
  const list = make("p", "av-token-experts");
  step.e.forEach((experts, row) => {
    const line = make("span", "", `L${run.first_layer + row}`);
    experts.forEach((expert, rank) => line.append(" ", expertName(expert), ` ${percent(step.g[row][rank])}`));
    list.append(line, " ");
  });
  return list;
}

function showReaders(row, expert) {
  view.classList.add("av-filtered");
  for (const { step, span, column } of tokens) {
    const reads = step.e[row].includes(expert);
    span.classList.toggle("av-hit", reads);
    column.classList.toggle("av-hit", reads);
  }
  part("token").replaceChildren(make("p", "av-hint", describeCell(row, expert)));
}

function hideReaders() {
  view.classList.remove("av-filtered");
  showToken(pinned);
}

function pin(index) {
  pinned = Math.max(-1, Math.min(index, tokens.length - 1));
  showToken(pinned);
  if (pinned < 0) return;
  part("columns").setAttribute("aria-activedescendant", tokens[pinned].column.id);
  revealColumn(pinned);
  revealText(pinned);
}

// The page itself stays where it is, which scrollIntoView would not promise.
function revealColumn(index) {
  const [columns, { offsetLeft, offsetWidth }] = [part("columns"), tokens[index].column];
  const inSight = offsetLeft >= columns.scrollLeft && offsetLeft + offsetWidth <= columns.scrollLeft + columns.clientWidth;
  if (!inSight) columns.scrollLeft = offsetLeft - columns.clientWidth / 2;
}

function revealText(index) {
  const [text, { offsetTop, offsetHeight }] = [part("text"), tokens[index].span];
  const inSight = offsetTop >= text.scrollTop && offsetTop + offsetHeight <= text.scrollTop + text.clientHeight;
  if (!inSight) text.scrollTop = offsetTop - text.clientHeight / 2;
}

// ------------------------------------------------------------------------------------------------------ keys and clicks

const STEPS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

function walk(event, name) {
  if (!tokens.length) return;
  if (event.key in STEPS) {
    closeToken();
    pin(Math.max(0, pinned + STEPS[event.key]));
  } else if (event.key === "ArrowUp") chooseLayer(layer - 1);
  else if (event.key === "ArrowDown") chooseLayer(layer + 1);
  else if ((event.key === "Enter" || event.key === " ") && pinned >= 0) openToken(pinned, placeOf(pinned, name), true);
  else if (event.key === "Escape" && opened >= 0) closeToken();
  else if (event.key === "Escape") pin(-1);
  else return;
  event.preventDefault();
}

const placeOf = (index, name) => (name === "text" ? tokens[index].span : tokens[index].column);

function listen(name) {
  const box = part(name);
  const indexOf = (event) => Number(event.target.closest("[data-index]")?.dataset.index ?? -1);
  box.addEventListener("pointerover", (event) => {
    const index = indexOf(event);
    if (index < 0 || opened >= 0) return;
    showToken(index);
    if (name === "text") revealColumn(index);
    else revealText(index);
  });
  box.addEventListener("pointerleave", () => opened < 0 && showToken(pinned));
  box.addEventListener("click", (event) => {
    const index = indexOf(event);
    const again = index === opened;
    closeToken();
    if (index < 0 || again) pin(-1);
    else openToken(index, placeOf(index, name), false);
  });
  box.addEventListener("keydown", (event) => walk(event, name));
  watchScrolling(name);
}

listen("text");
listen("columns");
