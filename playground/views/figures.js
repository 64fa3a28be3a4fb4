// What the tokens of a trace add up to: the experts' load against the fair share, the verdict on it, and the row of
// figures. A token is counted when it comes, so that a frame costs the same at the end of a long text as at its start.

import { buildLoadTable, nameExpert, PALETTE, spellExpert, spellLayer, zeroCounts } from "./routing.js";
import { countToken, drawStats, listStats, newTally } from "./stats.js";

const EVEN = 1.25; // loads up to this multiple of the fair share count as even
export const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }; // rows and columns
const FEW = 20; // with fewer tokens than this no expert is called unused

export function createFigures(trace) {
  const { part, fill, count, oneDigit } = trace.toolkit;
  let counts = []; // [layer][expert]: how many tokens the expert read
  let cells = []; // [layer][expert]: {root, bar, label}
  let most = null; // the cell of the highest load
  let tally = newTally();

  const total = () => tally.prompt + tally.fresh;
  const times = (row, expert) => (counts[row][expert] / total() / trace.run.experts_per_token) * trace.run.experts;

  function clear() {
    counts = [];
    cells = [];
    most = null;
    tally = newTally();
    for (const name of ["load", "verdict"]) part(name).replaceChildren();
  }

  function begin() {
    counts = zeroCounts(trace.run);
    cells = buildLoadTable(part("load"), trace.run);
    cells.forEach((row, rowIndex) => row.forEach(({ root }, expert) => listenToCell(root, rowIndex, expert)));
    if (cells.length) cells[0][0].root.tabIndex = 0;
  }

  // The Tab key stops once in the table; the arrow keys walk through its cells.
  function walk(event) {
    const row = cells.findIndex((line) => line.some(({ root }) => root === event.target));
    if (row < 0 || !(event.key in ARROWS)) return;
    const [down, right] = ARROWS[event.key];
    const expert = cells[row].findIndex(({ root }) => root === event.target);
    const next = cells[row + down]?.[expert + right]?.root;
    event.preventDefault();
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  part("load").addEventListener("keydown", walk);

  function listenToCell(cell, row, expert) {
    cell.tabIndex = -1;
    for (const enter of ["pointerenter", "focus"]) {
      cell.addEventListener(enter, () => trace.walk.showReaders(row, expert, describeCell(row, expert)));
    }
    for (const leave of ["pointerleave", "blur"]) cell.addEventListener(leave, () => trace.walk.hideReaders());
  }

  /** Counts a token; returns how many new ones there are. */
  function add(step) {
    step.e.forEach((experts, row) => {
      for (const expert of experts) counts[row][expert]++;
    });
    countToken(tally, step);
    return tally.fresh;
  }

  function describeCell(row, expert) {
    return fill("load_cell", {
      expert: spellExpert(trace.run, row, expert, fill),
      count: count(counts[row][expert]),
      tokens: count(total()),
      times: oneDigit(times(row, expert)),
    });
  }

  function draw() {
    if (!trace.run) return;
    drawStats(trace.toolkit, part("stats"), listStats(trace.toolkit, trace.run, tally));
    for (const name of part("stats").querySelectorAll("dt")) trace.terms.mark(name);
    if (!trace.run.layers) part("verdict").textContent = fill("no_experts");
    else if (total()) drawLoad();
  }

  function drawLoad() {
    let [mostRow, mostExpert] = [0, 0];
    counts.forEach((row, rowIndex) =>
      row.forEach((read, expert) => {
        const { root, bar, label } = cells[rowIndex][expert];
        bar.style.transform = `scaleX(${read / total()})`;
        label.textContent = `${oneDigit(times(rowIndex, expert))}×`;
        if (trace.ended) root.setAttribute("aria-label", describeCell(rowIndex, expert));
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
    const { run } = trace;
    const highest = times(row, expert);
    const values = { layer: spellLayer(run, row, fill), expert: nameExpert(run, row, expert), times: oneDigit(highest) };
    const sentences = [fill(highest > EVEN ? "verdict_lean" : "verdict_even", values)];
    if (total() >= FEW && run.experts <= PALETTE) {
      const idle = counts.flatMap((counted, rowIndex) =>
        counted.flatMap((read, index) =>
          read ? [] : [spellExpert(run, rowIndex, index, fill)],
        ),
      );
      if (idle.length) sentences.push(fill("verdict_idle", { experts: idle.join(", ") }));
    }
    return sentences.join(" ");
  }

  const cellOf = (row, expert) => cells[row][expert].root;

  return { clear, begin, add, draw, cellOf, fresh: () => tally.fresh };
}
