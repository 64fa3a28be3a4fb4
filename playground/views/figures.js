// What the tokens add up to: the experts' load against the fair share, the verdict on it, and the row of figures.
// Everything is counted when a token comes, so that a frame costs the same at the end of a long text as at its beginning.

const EVEN = 1.25; // loads up to this multiple of the fair share count as even
const FEW = 20; // with fewer tokens than this nobody is called idle

let counts = []; // [layer][expert]: how many tokens the expert read
let cells = []; // [layer][expert]: {root, bar, label}
let most = null; // the cell of the highest load
let tally = null; // of the tokens: how many of the prompt, how many new, and when

function clearFigures() {
  counts = [];
  cells = [];
  most = null;
  tally = { prompt: 0, fresh: 0, ready: 0, first: undefined, last: undefined };
  for (const name of ["load", "verdict"]) part(name).replaceChildren();
}

function count(step) {
  step.e.forEach((experts, row) => {
    for (const expert of experts) counts[row][expert]++;
  });
  if (step.prompt) {
    tally.prompt++;
    tally.ready = step.s ?? 0; // new tokens take from the moment when the prompt was read
  } else {
    tally.fresh++;
    tally.first ??= step.s;
    tally.last = step.s;
  }
}

const total = () => tally.prompt + tally.fresh;
const times = (row, expert) => (counts[row][expert] / total() / run.experts_per_token) * run.experts;

function buildLoad() {
  counts = Array.from({ length: run.layers }, () => new Array(run.experts).fill(0));
  cells = buildLoadTable(part("load"), run);
  cells.forEach((row, rowIndex) => row.forEach(({ root }, expert) => listenToCell(root, rowIndex, expert)));
}

function listenToCell(cell, row, expert) {
  cell.tabIndex = run.experts > PALETTE ? -1 : 0;
  for (const enter of ["pointerenter", "focus"]) cell.addEventListener(enter, () => showReaders(row, expert));
  for (const leave of ["pointerleave", "blur"]) cell.addEventListener(leave, hideReaders);
}

function describeCell(row, expert) {
  return fill("load_cell", {
    layer: run.first_layer + row,
    expert: expert + 1,
    count: counts[row][expert],
    tokens: total(),
    times: times(row, expert).toFixed(1),
  });
}

function drawFigures() {
  if (!run) return;
  drawStats();
  if (!run.layers) part("verdict").textContent = fill("no_experts");
  else if (total()) drawLoad();
}

function drawLoad() {
  let [mostRow, mostExpert] = [0, 0];
  counts.forEach((row, rowIndex) =>
    row.forEach((read, expert) => {
      const { root, bar, label } = cells[rowIndex][expert];
      bar.style.transform = `scaleX(${read / total()})`;
      label.textContent = `${times(rowIndex, expert).toFixed(1)}×`;
      if (ended) root.setAttribute("aria-label", describeCell(rowIndex, expert));
      if (read > counts[mostRow][mostExpert]) [mostRow, mostExpert] = [rowIndex, expert];
    }),
  );
  const { root } = cells[mostRow][mostExpert];
  if (most !== root) most?.classList.remove("av-most");
  most = root;
  most.classList.add("av-most");
  part("verdict").textContent = judge(mostRow, mostExpert);
}

function judge(row, expert) {
  const highest = times(row, expert);
  const values = { layer: run.first_layer + row, expert: expert + 1, times: highest.toFixed(1) };
  const sentences = [fill(highest > EVEN ? "verdict_lean" : "verdict_even", values)];
  if (total() >= FEW && run.experts <= PALETTE) {
    const idle = counts.flatMap((counted, rowIndex) =>
      counted.flatMap((read, index) =>
        read ? [] : [fill("idle_expert", { layer: run.first_layer + rowIndex, expert: index + 1 })],
      ),
    );
    if (idle.length) sentences.push(fill("verdict_idle", { experts: idle.join(", ") }));
  }
  return sentences.join(" ");
}

function drawStats() {
  const { prompt, fresh, ready, first, last } = tally;
  const show = (name, value, note = "") => {
    part(`stat-${name}`).textContent = value;
    part(`stat-${name}-note`).textContent = note;
  };
  const absent = run.recorded ? fill("stat_recorded") : "";
  show("tokens", total(), fill("stat_tokens_note", { prompt, new: fresh }));
  if (last > ready) show("speed", Math.round(fresh / (last - ready)), fill("stat_speed_unit"));
  else show("speed", "–", absent);
  if (first !== undefined) show("first", `${Math.round(1000 * first)} ms`, fill("stat_first_note"));
  else show("first", "–", absent);
  const plain = formatBytes(total() * run.plain_cache_bytes);
  show("cache", formatBytes(total() * run.cache_bytes), fill("stat_cache_note", { plain }));
}
