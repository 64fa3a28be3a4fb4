// Draws a trace. The value is NDJSON that only grows; what was added is read and drawn in the next animation frame.

const EVEN = 1.25; // loads up to this multiple of the fair share count as even
const FEW = 20; // with fewer tokens than this nobody is called idle

const view = part("view");
let seen = ""; // the part of the value that was read
let run = null; // the start event
let tokens = []; // {step, span, column}, one per token
let counts = []; // [layer][expert]: how many tokens the expert read
let cells = []; // [layer][expert]: {root, bar, label}
let layer = 0; // colours the text
let pinned = -1; // the token chosen by click or key
let ended = true;

// ---------------------------------------------------------------------------------------------------- reading events

function readValue() {
  const text = props.value || "";
  if (!text.startsWith(seen) || !text) reset();
  const complete = text.slice(seen.length, text.lastIndexOf("\n") + 1);
  seen += complete;

  const batch = { text: new DocumentFragment(), columns: new DocumentFragment(), size: 0 };
  for (const line of complete.split("\n")) {
    if (line) take(JSON.parse(line), batch);
  }
  if (batch.size) append(batch);
  if (complete) drawFigures();
}

function take(event, batch) {
  if (event.kind === "start") begin(event);
  else if (event.kind === "error") fail(event.message);
  else if (ended) return; // what was still on its way when Stop was pressed
  else if (event.kind === "step") addToken(event, batch);
  else if (event.kind === "end") {
    append(batch);
    finish(event);
  }
}

function reset() {
  seen = "";
  run = null;
  tokens = [];
  counts = [];
  cells = [];
  pinned = -1;
  ended = true;
  for (const name of ["text", "columns", "rows", "layers", "load", "token", "verdict"]) part(name).replaceChildren();
  part("error").hidden = true;
  part("status").textContent = "";
  view.dataset.state = "empty";
}

function begin(start) {
  run = start;
  ended = false;
  layer = Math.min(layer, Math.max(run.layers - 1, 0));
  counts = Array.from({ length: run.layers }, () => new Array(run.experts).fill(0));
  view.dataset.state = run.recorded ? "recorded" : "running";
  view.classList.toggle("av-many", run.experts > PALETTE);
  view.classList.toggle("av-dense", run.layers === 0);
  part("status").textContent = fill(run.recorded ? "recorded" : "running", { model: run.model, draw: describeDraw() });
  buildLayers();
  buildLoad();
  showToken(-1);
  if (!run.recorded) {
    announce(fill("announce_start"));
    bringIntoSight();
  }
}

function describeDraw() {
  const { temperature, seed } = run.sampling;
  return temperature === 0 ? fill("greedy") : fill("seeded", { seed, temperature });
}

function addToken(step, batch) {
  const index = tokens.length;
  const span = make("span", step.prompt ? "av-tok av-prompt" : "av-tok", step.t);
  if (/^\n+$/.test(step.t)) span.classList.add("av-newline");
  const column = make("div", step.prompt ? "av-col av-prompt" : "av-col");
  column.setAttribute("role", "option");
  step.e.forEach((experts, row) => {
    column.append(routingCell(experts, step.g[row], run.experts));
    for (const expert of experts) counts[row][expert]++;
  });
  if (run.layers) paint(span, step.e[layer][0], run.experts);
  span.dataset.index = column.dataset.index = index;
  tokens.push({ step, span, column });
  batch.text.append(span);
  batch.columns.append(column);
  batch.size++;
}

function append(batch) {
  const text = part("text");
  const columns = part("columns");
  const follow = !run.recorded; // a live trace keeps its newest token in sight, unless the reader scrolled away
  const atBottom = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
  const atRight = columns.scrollWidth - columns.scrollLeft - columns.clientWidth < 80;
  text.append(batch.text);
  columns.append(batch.columns);
  if (follow && atBottom) text.scrollTop = text.scrollHeight;
  if (follow && atRight) columns.scrollLeft = columns.scrollWidth;
}

function finish(end) {
  ended = true;
  drawFigures();
  if (run.recorded) return;
  view.dataset.state = "done";
  const why = fill(end.reason, end);
  part("status").textContent = `${fill("done", { model: run.model, draw: describeDraw() })} · ${why}`;
  announce(fill("announce_end", { tokens: tokens.length, verdict: part("verdict").textContent }));
}

function fail(message) {
  ended = true;
  view.dataset.state = tokens.length ? "done" : "error";
  part("status").textContent = "";
  part("error").textContent = message; // role=alert: read out by itself
  part("error").hidden = false;
}

// --------------------------------------------------------------------------------------------------- colour and shape

function buildLayers() {
  const group = part("layers");
  group.setAttribute("aria-label", fill("layers"));
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

    const rowLabel = make("span", "", name);
    rowLabel.addEventListener("click", () => chooseLayer(row));
    part("rows").append(rowLabel);
  }
  chooseLayer(layer);
}

function chooseLayer(row) {
  layer = row;
  part("layers").querySelectorAll("input").forEach((radio, index) => (radio.checked = index === row));
  [...part("rows").children].forEach((label, index) => label.classList.toggle("on", index === row));
  if (run.layers) for (const { step, span } of tokens) paint(span, step.e[row][0], run.experts);
}

// A full bar is every token; the tick stands at the fair share, which is experts per token ÷ experts.
function buildLoad() {
  const grid = part("load");
  grid.style.setProperty("--experts", run.experts);
  grid.style.setProperty("--fair", run.experts_per_token / run.experts);
  if (run.layers) grid.append(make("span", ""));
  for (let expert = 0; run.layers && expert < run.experts; expert++) {
    const head = make("b", "", `E${expert + 1}`);
    paint(head, expert, run.experts);
    grid.append(head);
  }
  cells = counts.map((row, rowIndex) => {
    grid.append(make("span", "", `L${run.first_layer + rowIndex}`));
    return row.map((_, expert) => {
      const root = make("div", "av-cell");
      const track = make("div", "");
      const bar = make("i", "");
      const label = make("span", "");
      track.append(bar);
      paint(root, expert, run.experts);
      root.setAttribute("role", "img");
      root.tabIndex = run.experts > PALETTE ? -1 : 0;
      root.append(track, label);
      for (const enter of ["pointerenter", "focus"]) root.addEventListener(enter, () => showReaders(rowIndex, expert));
      for (const leave of ["pointerleave", "blur"]) root.addEventListener(leave, hideReaders);
      grid.append(root);
      return { root, bar, label };
    });
  });
}

// ------------------------------------------------------------------------------------------------------------ figures

const times = (row, expert) => (counts[row][expert] / tokens.length / run.experts_per_token) * run.experts;

function describeCell(row, expert) {
  return fill("load_cell", {
    layer: run.first_layer + row,
    expert: expert + 1,
    count: counts[row][expert],
    tokens: tokens.length,
    times: times(row, expert).toFixed(1),
  });
}

function drawFigures() {
  if (!run) return;
  drawStats();
  if (!run.layers) {
    part("verdict").textContent = fill("no_experts");
    return;
  }
  if (!tokens.length) return;
  let most = [0, 0];
  counts.forEach((row, rowIndex) =>
    row.forEach((count, expert) => {
      const { root, bar, label } = cells[rowIndex][expert];
      bar.style.transform = `scaleX(${count / tokens.length})`;
      label.textContent = `${times(rowIndex, expert).toFixed(1)}×`;
      root.classList.remove("av-most");
      if (ended) root.setAttribute("aria-label", describeCell(rowIndex, expert));
      if (count > counts[most[0]][most[1]]) most = [rowIndex, expert];
    }),
  );
  cells[most[0]][most[1]].root.classList.add("av-most");
  part("verdict").textContent = judge(...most);
}

function judge(row, expert) {
  const highest = times(row, expert);
  const values = { layer: run.first_layer + row, expert: expert + 1, times: highest.toFixed(1) };
  const sentences = [fill(highest > EVEN ? "verdict_lean" : "verdict_even", values)];
  if (tokens.length >= FEW && run.experts <= PALETTE) {
    const idle = counts.flatMap((counted, rowIndex) =>
      counted.flatMap((count, index) =>
        count ? [] : [fill("idle_expert", { layer: run.first_layer + rowIndex, expert: index + 1 })],
      ),
    );
    if (idle.length) sentences.push(fill("verdict_idle", { experts: idle.join(", ") }));
  }
  return sentences.join(" ");
}

function drawStats() {
  const fresh = tokens.filter(({ step }) => !step.prompt).map(({ step }) => step.s);
  const timed = fresh.length && fresh[0] !== undefined;
  const [first, last] = [fresh[0], fresh[fresh.length - 1]];
  // new tokens take from the moment when the prompt was read, so that a single one has a speed too
  const ready = Math.max(0, ...tokens.filter(({ step }) => step.prompt && step.s !== undefined).map(({ step }) => step.s));
  const show = (name, value, note = "") => {
    part(`stat-${name}`).textContent = value;
    part(`stat-${name}-note`).textContent = note;
  };
  const absent = run.recorded ? fill("stat_recorded") : "";
  show("tokens", tokens.length, fill("stat_tokens_note", { prompt: tokens.length - fresh.length, new: fresh.length }));
  if (timed && last > ready) show("speed", Math.round(fresh.length / (last - ready)), fill("stat_speed_unit"));
  else show("speed", "–", absent);
  if (timed) show("first", `${Math.round(1000 * first)} ms`, fill("stat_first_note"));
  else show("first", "–", absent);
  const plain = formatBytes(tokens.length * run.plain_cache_bytes);
  show("cache", formatBytes(tokens.length * run.cache_bytes), fill("stat_cache_note", { plain }));
}

// -------------------------------------------------------------------------------------- one token, and who reads what

function mark(index, on) {
  const token = tokens[index];
  if (!token) return;
  token.span.classList.toggle("on", on);
  token.column.classList.toggle("on", on);
}

let shown = -1;

// Shows a token's numbers; -1 shows how to get there.
function showToken(index) {
  mark(shown, false);
  shown = index;
  mark(index, true);
  const box = part("token");
  box.replaceChildren();
  if (!tokens[index]) {
    box.append(make("p", "av-hint", fill("token_hint")));
    return;
  }
  const { step, column } = tokens[index];
  const title = make("p", "av-token-title");
  title.append(make("q", "", visible(step.t)), make("span", "", `#${step.i + 1}`));
  title.append(make("span", "", step.p === null ? fill("from_prompt") : fill("probability", { p: percent(step.p) })));
  box.append(title, describeExperts(step));
  const others = step.alt.filter(([id]) => id !== step.id);
  if (others.length) {
    const line = make("p", "av-others", `${fill("instead")} `);
    for (const [, text, p] of others) {
      const chip = make("span", "", percent(p));
      chip.prepend(make("q", "", visible(text)));
      line.append(chip);
    }
    box.append(line);
  }
  column.id = `axion-token-${index}`;
  column.setAttribute("aria-label", [...box.children].map((child) => child.textContent).join(", "));
}

function describeExperts(step) {
  const list = make("p", "av-token-experts");
  step.e.forEach((experts, row) => {
    const line = make("span", "", `L${run.first_layer + row}`);
    experts.forEach((expert, rank) => {
      const name = make("b", "", `E${expert + 1}`);
      paint(name, expert, run.experts);
      line.append(" ", name, ` ${percent(step.g[row][rank])}`);
    });
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
  const seenAlready = offsetLeft >= columns.scrollLeft && offsetLeft + offsetWidth <= columns.scrollLeft + columns.clientWidth;
  if (!seenAlready) columns.scrollLeft = offsetLeft - columns.clientWidth / 2;
}

function revealText(index) {
  const [text, { offsetTop, offsetHeight }] = [part("text"), tokens[index].span];
  const seenAlready = offsetTop >= text.scrollTop && offsetTop + offsetHeight <= text.scrollTop + text.clientHeight;
  if (!seenAlready) text.scrollTop = offsetTop - text.clientHeight / 2;
}

// ------------------------------------------------------------------------------------------------------ page and input

function announce(text) {
  part("live").textContent = text;
}

// On a narrow screen the controls stand below the view: without this, Generate would seem to do nothing.
function bringIntoSight() {
  const { top, bottom } = view.getBoundingClientRect();
  if (top >= 0 || bottom > innerHeight / 2) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  view.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

function walk(event) {
  if (!tokens.length) return;
  if (event.key in STEPS) pin(Math.max(0, pinned + STEPS[event.key]));
  else if (event.key === "ArrowUp") chooseLayer(Math.max(0, layer - 1));
  else if (event.key === "ArrowDown") chooseLayer(Math.min(run.layers - 1, layer + 1));
  else if (event.key === "Escape") pin(-1);
  else return;
  event.preventDefault();
}

for (const name of ["text", "columns"]) {
  const box = part(name);
  const indexOf = (event) => Number(event.target.closest("[data-index]")?.dataset.index ?? -1);
  box.addEventListener("pointerover", (event) => {
    const index = indexOf(event);
    if (index < 0) return;
    showToken(index);
    if (name === "text") revealColumn(index);
    else revealText(index);
  });
  box.addEventListener("pointerleave", () => showToken(pinned));
  box.addEventListener("click", (event) => pin(indexOf(event) === pinned ? -1 : indexOf(event)));
  box.addEventListener("keydown", walk);
}
part("columns").setAttribute("aria-label", fill("ribbon_help"));
part("text").setAttribute("aria-label", fill("text"));
part("load").setAttribute("aria-label", fill("load_note"));
part("empty").textContent = fill("empty");
for (const node of element.querySelectorAll("[data-text]")) node.textContent = fill(node.dataset.text);

// Stop cuts the stream in the server, so that no last line comes.
view.addEventListener("stop", () => {
  if (run && !ended) finish({ reason: "stopped" });
});

let waiting = false;
watch("value", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    readValue();
  });
});
readValue();
