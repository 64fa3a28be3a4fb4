// Two generations from one prompt: their texts side by side, and one ribbon above the other. A column is as wide as its
// token's text, so that the same place in both texts has the same x. The value is NDJSON that only grows, each line with its
// `side` (see playground/generate/comparison.py); what was added is drawn in the next animation frame. The view of a
// comparison is this alone; a trace shows it below itself where the model is tampered with.

import { createJoiner } from "./characters.js";
import { markEnds } from "./ends.js";
import { createPopover } from "./popover.js";
import {
  buildLoadTable,
  loopLabel,
  makeColumn,
  makeLayerChoice,
  makeRowLabels,
  makeToken,
  nameExpert,
  paint,
  PALETTE,
  spellExpert,
  zeroCounts,
} from "./routing.js";
import { createShare, exportTrace, settingsToLink, tabulate } from "./share.js";
import { countToken, drawStats, listStats, newTally } from "./stats.js";
import { createTerms } from "./terms.js";
import { createToolkit, FAR, indexAt, isAtEnd, KEY_STEPS, make, readLines } from "./toolkit.js";

const SIDES = ["a", "b"];

/**
 * Draws the comparison in a host's element. The prop `names` has names for the sides in place of A and B, and the prop `id`
 * begins the ids in place of "axion-compare", where a page has two comparisons. With the props `defaults`, the sampling settings
 * that a link may leave out, and `common`, the names of the settings that both sides have in common, it can be shared.
 */
export function createComparison(/** @type {import("./toolkit.js").Host} */ host) {
  const { props, watch } = host;
  const toolkit = createToolkit(host);
  const { part, fill, visible, percent, percents, count, oneDigit, twoDigits } = toolkit;
  const view = part("view");
  const terms = createTerms(host);
  let seen = ""; // the part of the value that was read
  let sides = {}; // side → its state, see newSide
  let settled = false; // both have ended, and the end was announced
  let following = true; // the ribbons keep their end in sight, unless the reader scrolled away
  let common = 0; // the length of the two answers' common prefix, in characters
  let marked = []; // the tokens that are marked
  let linked = {}; // side → the hash of the release that a link was made with

  const id = props.id ?? "axion-compare";
  const nameOf = (side) => props.names?.[side.key] ?? side.key.toUpperCase();
  const other = (side) => (side.key === "a" ? sides.b : sides.a);
  const both = () => SIDES.map((key) => sides[key]).filter(Boolean);
  const popovers = Object.fromEntries(SIDES.map((key) => [key, createPopover(popoverHost(key))]));
  const openPopover = () => Object.values(popovers).find((popover) => popover.index() >= 0);
  part("share").hidden = !props.common;
  const share = props.common && createShare({
    name: "axion-comparison",
    toolkit,
    announce: (text) => (part("live").textContent = text),
    query: linkBoth,
    hash: "#compare",
    data: () => Object.fromEntries(both().map((side) => [side.key, side.run ? exportTrace(side.run, side.tokens, side.outcome) : null])),
    table: tabulateBoth,
  });

  // ---------------------------------------------------------------------------------------------------- reading events

  function readValue() {
    if (host.busy === "stopped") return; // late data
    const text = props.value || "";
    if (!text.startsWith(seen) || !text) reset();
    const { events, end } = readLines(text, seen.length);
    if (!events.length) return;
    seen = text.slice(0, end);
    for (const event of events) take(event);
    draw();
  }

  function reset() {
    seen = "";
    for (const popover of Object.values(popovers)) popover.close();
    share?.hideLink();
    sides = {};
    settled = false;
    following = true;
    common = 0;
    for (const name of ["side-a", "side-b", "ribbon-a", "ribbon-b", "verdict", "token", "common"]) part(name).replaceChildren();
    part("divergence").hidden = true;
    view.dataset.state = "empty";
  }

  function take(event) {
    if (event.kind === "open") {
      open(event);
      return;
    }
    const side = (sides[event.side] ??= newSide(event.side));
    if (event.kind === "start") begin(side, event);
    else if (event.kind === "step") addToken(side, event);
    else {
      side.ended = true;
      if (event.kind === "error") side.failure = event.message;
      else side.outcome = event;
    }
  }

  // A link asks for both generations.
  function open({ a, b }) {
    const requests = { a, b };
    linked = Object.fromEntries(SIDES.map((key) => [key, requests[key].release]));
    for (const key of SIDES) delete requests[key].release;
    host.trigger("submit", requests);
  }

  // `letters` is the whole text by character; the first `prompt` of them are the prompt's. Each of `tokens` has the range
  // from … to. `surprise` is the sum of −log p over the new tokens; `batch` holds the nodes to append next.
  function newSide(key) {
    const batch = { text: new DocumentFragment(), lane: new DocumentFragment() };
    const figures = { tally: newTally(), surprise: 0 };
    const text = { tokens: [], letters: [], prompt: 0, joiner: null };
    return { key, run: null, ...text, layer: 0, ended: false, outcome: null, pinned: -1, ...figures, batch };
  }

  function begin(side, run) {
    side.run = run;
    side.counts = zeroCounts(run);
    side.joiner = createJoiner(run);
    buildSide(side);
    buildRibbon(side);
  }

  function addToken(side, step) {
    const { run, tokens } = side;
    const from = side.letters.length;
    side.letters.push(...step.t);
    const to = side.letters.length;
    countToken(side.tally, step);
    if (step.prompt) side.prompt = to;
    else side.surprise -= Math.log(step.p);
    step.e.forEach((experts, row) => experts.forEach((expert) => side.counts[row][expert]++));

    const span = makeToken(step, side.layer, run.experts);
    const column = makeColumn(step.prompt ? "ac-col av-prompt" : "ac-col", step, run.experts);
    column.style.setProperty("--from", from);
    column.style.setProperty("--chars", to - from);
    column.id = `${id}-${side.key}-${tokens.length}`;
    column.setAttribute("role", "option");
    column.setAttribute("aria-label", visible(step.t));
    span.dataset.index = column.dataset.index = tokens.length;
    const token = { step, span, column, from, to };
    tokens.push(token);
    side.batch.lane.append(column);
    for (const each of side.joiner.add(token, side.batch.text)) placePiece(side, each, from, to);
  }

  // The tokens of one character share its width.
  function placePiece(side, token, from, to) {
    const { at, of } = token.piece;
    const { classList, style, dataset } = token.column;
    Object.assign(token, { from, to });
    classList.toggle("av-opens", at < of);
    style.setProperty("--from", from + ((at - 1) / of) * (to - from));
    style.setProperty("--chars", (to - from) / of);
    token.column.setAttribute("aria-label", popovers[side.key].nameOfToken(Number(dataset.index)));
  }

  // ------------------------------------------------------------------------------------------------------------- drawing

  function append(side) {
    const { text, lane } = side.nodes;
    const follows = isAtEnd(text, "y");
    text.append(side.batch.text);
    lane.append(side.batch.lane);
    if (follows) text.scrollTop = FAR;
  }

  part("scroll").addEventListener("scroll", () => {
    following = isAtEnd(part("scroll"), "x");
  });

  function buildSide(side) {
    const { run } = side;
    const root = part(`side-${side.key}`);
    const nodes = {
      status: make("p", "av-status"),
      layers: make("div", "av-layers"),
      note: make("p", "av-note"),
      text: make("div", "av-text"),
      load: make("div", run.layers ? "av-load" : "av-verdict"),
      stats: make("dl", "av-stats"),
    };
    side.nodes = nodes;
    nodes.text.tabIndex = 0;
    nodes.text.setAttribute("role", "region");
    if (run.layers) nodes.load.setAttribute("role", "group");
    const head = make("div", "av-head");
    head.append(nodes.status, nodes.layers);
    root.replaceChildren(head, nodes.note, nodes.text, nodes.load, nodes.stats);
    root.classList.toggle("av-many", run.experts > PALETTE);
    root.classList.toggle("av-dense", run.layers === 0);
    buildLayers(side);
    side.cells = buildLoadTable(side.nodes.load, side.run);
    listen(side, nodes.text);
  }

  function buildLayers(side) {
    const { run, nodes } = side;
    nodes.layers.setAttribute("role", "radiogroup");
    nodes.layers.setAttribute("aria-label", `${nameOf(side)}: ${fill("layers")}`);
    const choose = (row) => {
      side.layer = row;
      for (const { step, span } of side.tokens) paint(span, step.e[row][0], run.experts);
    };
    nodes.layers.replaceChildren(...makeLayerChoice(run, `${id}-layer-${side.key}`, side.layer, fill, choose));
  }

  function buildRibbon(side) {
    const { run } = side;
    const name = make("b", "ac-name", nameOf(side));
    const rows = make("div", "av-row-labels");
    rows.append(...makeRowLabels(run));
    const lane = make("div", "ac-lane");
    lane.tabIndex = 0;
    lane.setAttribute("role", "listbox");
    lane.setAttribute("aria-orientation", "horizontal");
    lane.style.setProperty("--rows", run.layers);
    lane.addEventListener("keydown", (event) => walk(side, event));
    const labels = make("div", "ac-labels");
    labels.append(name, rows);
    labels.setAttribute("aria-hidden", "true");
    part(`ribbon-${side.key}`).replaceChildren(labels, lane);
    part(`ribbon-${side.key}`).classList.toggle("av-many", run.experts > PALETTE);
    side.nodes.lane = lane;
    listen(side, lane);
  }

  function draw() {
    const complete = host.busy === "stopped" || both().length === SIDES.length;
    const ended = complete && both().every((side) => side.ended);
    view.dataset.state = ended ? "done" : "running";
    for (const side of both()) drawSide(side);
    part("ribbons").hidden = both().every((side) => side.run?.layers === 0);
    alignRibbons();
    if (!ended && following) part("scroll").scrollLeft = FAR;
    drawDivergence(ended);
    if (!ended || settled) return;
    settled = true;
    revealDivergence();
    part("live").textContent = fill("announce_both", { verdict: part("verdict").textContent });
  }

  function drawSide(side) {
    const { run, nodes, failure } = side;
    if (!run) {
      part(`side-${side.key}`).replaceChildren(make("p", "av-error", failure ?? ""));
      return;
    }
    nodes.status.textContent = "";
    nodes.status.append(make("b", "ac-name", nameOf(side)), make("span", "", describeState(side)));
    nodes.note.textContent = failure ?? listNotes(side).join(" ");
    nodes.note.hidden = !nodes.note.textContent;
    const stopped = side.ended && host.busy === "stopped" ? { reason: "stopped" } : null;
    markEnds(toolkit, nodes.text, run, side.outcome ?? stopped, side.tally.fresh);
    nodes.text.setAttribute("aria-label", fill("text_of", { side: nameOf(side) }));
    if (side.batch.text.childNodes.length) append(side);
    nodes.lane.setAttribute("aria-label", fill("ribbon_of", { side: nameOf(side) }));
    if (run.layers) nodes.load.setAttribute("aria-label", fill("load_note"));
    else nodes.load.textContent = fill("no_experts");
    side.counts.forEach((row, rowIndex) => row.forEach((_, expert) => drawCell(side, rowIndex, expert)));
    drawFigures(side);
  }

  function listNotes({ key, run }) {
    const notes = [];
    if (run.dropped) notes.push(fill("dropped", { dropped: count(run.dropped), context: count(run.context) }));
    if (linked[key] && run.release && linked[key] !== run.release) {
      notes.push(fill("other_release", { model: run.model, linked: linked[key], served: run.release }));
    }
    return notes;
  }

  function describeState({ run, outcome, ended }) {
    const parts = [fill("done", { model: run.model, draw: toolkit.describeSampling(run.sampling) })];
    if (outcome) parts.push(fill(outcome.reason, outcome));
    else if (ended && host.busy === "stopped") parts.push(fill("stopped"));
    return parts.join(" · ");
  }

  function drawCell({ run, counts, cells, tokens }, row, expert) {
    const { root, bar, label } = cells[row][expert];
    const share = tokens.length ? counts[row][expert] / tokens.length : 0;
    const times = oneDigit((share / run.experts_per_token) * run.experts);
    bar.style.transform = `scaleX(${share})`;
    label.textContent = `${times}×`;
    const tally = { count: count(counts[row][expert]), tokens: count(tokens.length) };
    root.setAttribute("aria-label", fill("load_cell", { expert: spellExpert(run, row, expert, fill), ...tally, times }));
  }

  function drawFigures({ run, tally, surprise, nodes }) {
    const stats = listStats(toolkit, run, tally, fill("own_time"));
    const perplexity = tally.fresh ? twoDigits(Math.exp(surprise / tally.fresh)) : "–";
    stats.splice(-1, 0, ["perplexity", perplexity, fill("perplexity_note")]);
    drawStats(toolkit, nodes.stats, stats);
  }

  // Both answers begin at the same x, even if one side's prompt was cut.
  function alignRibbons() {
    const drawn = both().filter((side) => side.run);
    const origin = Math.max(0, ...drawn.map((side) => side.prompt));
    const longest = Math.max(0, ...drawn.map((side) => side.letters.length - side.prompt));
    part("track").style.setProperty("--origin", origin);
    part("track").style.setProperty("--all", origin + longest);
    for (const side of drawn) side.nodes.lane.style.setProperty("--prompt", side.prompt);
  }

  // ------------------------------------------------------------------------------------------------- where the texts differ

  // `common`, or null while it may still grow.
  function commonLength(ended) {
    const { a, b } = sides;
    const letter = (side) => side.letters[side.prompt + common];
    while (letter(a) !== undefined && letter(a) === letter(b)) common++;
    return ended || (letter(a) !== undefined && letter(b) !== undefined) ? common : null;
  }

  const firstAfter = (side, length) => side.tokens.find(({ to }) => to > side.prompt + length);

  function drawDivergence(ended) {
    const verdict = part("verdict");
    part("divergence").hidden = true;
    if (!sides.a?.run || !sides.b?.run) {
      verdict.textContent = "";
      return;
    }
    const length = commonLength(ended);
    if (length === null) {
      verdict.textContent = fill("running_both");
      return;
    }
    const [a, b] = [sides.a, sides.b].map((side) => firstAfter(side, length));
    if (a || b) {
      const next = { count: count(length), a: describeNext(a), b: describeNext(b) };
      verdict.textContent = fill(length ? "diverged" : "diverged_at_once", next);
      part("divergence").hidden = false;
      part("track").style.setProperty("--common", length);
      for (const side of both()) markOwn(side, length);
    } else verdict.textContent = fill(sides.a.tally.fresh || sides.b.tally.fresh ? "identical" : "nothing");
    if (ended) drawCommon(a, b);
  }

  const describeNext = (token) =>
    token ? fill("next_token", { word: visible(token.step.t), p: percent(token.step.p) }) : fill("ends");

  // Scrolls so that the line stands at a third of the width.
  function revealDivergence() {
    const box = part("scroll");
    if (!part("divergence").hidden) box.scrollLeft = part("divergence").offsetLeft - box.clientWidth / 3;
  }

  // Marks each side's tokens from the first difference on.
  function markOwn(side, length) {
    const first = firstAfter(side, length);
    side.marked ??= first ? side.tokens.indexOf(first) : side.tokens.length;
    first?.span.classList.add("ac-first");
    for (; side.marked < side.tokens.length; side.marked++) {
      side.tokens[side.marked].span.classList.add("ac-own");
      side.tokens[side.marked].column.classList.add("ac-own");
    }
  }

  // Routing depends only on the text and the weights, so one model routes both sides the same way until the texts differ.
  function drawCommon(firstA, firstB) {
    const { a, b } = sides;
    part("common").textContent = "";
    if (a.run.model !== b.run.model || !a.run.layers) return;
    const [endA, endB] = [firstA, firstB].map((first, index) => {
      const { tokens } = [a, b][index];
      return first ? tokens.indexOf(first) : tokens.length;
    });
    const tokens = Math.min(endA, endB);
    let same = 0;
    for (let index = 0; index < tokens; index++) {
      const [one, two] = [a.tokens[index].step, b.tokens[index].step];
      if (one.id === two.id && JSON.stringify(one.e) === JSON.stringify(two.e)) same++;
    }
    part("common").textContent = fill("same_routing", { same: count(same), count: count(tokens) });
  }

  // -------------------------------------------------------------------------------------------- one token and its opposite

  function showToken(side, index) {
    for (const { span, column } of marked) for (const node of [span, column]) node.classList.remove("on");
    marked = [];
    const token = side?.tokens[index];
    if (!token) {
      part("token").textContent = "";
      return;
    }
    const from = token.from - side.prompt;
    const to = Math.max(token.to - side.prompt, from + 1);
    const opposite = other(side)?.run ? other(side) : null;
    const twins = opposite?.tokens.filter((twin) => twin.from - opposite.prompt < to && twin.to - opposite.prompt > from);
    marked = [token, ...(twins ?? [])];
    for (const { span, column } of marked) for (const node of [span, column]) node.classList.add("on");
    part("token").textContent = describeToken(side, token.step);
  }

  function describeToken(side, step) {
    const experts = step.e.map((chosen, row) => {
      const weights = percents(step.g[row]);
      const names = chosen.map((expert, rank) => `${nameExpert(side.run, row, expert)} ${weights[rank]}`);
      return loopLabel(side.run, row) + names.join(" ");
    });
    const chance = step.p === null ? fill("from_prompt") : fill("probability", { p: percent(step.p) });
    const place = fill("token", { token: step.i + 1 });
    const text = popovers[side.key].nameOfToken(side.tokens.findIndex((token) => token.step === step));
    return [`${nameOf(side)} “${text}”`, place, chance, ...experts].join(" · ");
  }

  function listen(side, box) {
    const popover = popovers[side.key];
    box.addEventListener("pointerover", (event) => indexAt(event) >= 0 && !openPopover() && showToken(side, indexAt(event)));
    box.addEventListener("pointerleave", () => openPopover() || showToken(side, side.pinned));
    box.addEventListener("click", (event) => {
      const index = indexAt(event);
      const again = index === popover.index();
      openPopover()?.close();
      if (index < 0 || again) pin(side, -1);
      else popover.open(index, event.target.closest("[data-index]"), false);
    });
  }

  // What the popover of one side reads; see popover.js. Without `ask` it lists the alternatives and cannot branch.
  function popoverHost(key) {
    return {
      toolkit,
      host,
      view,
      terms,
      box: part(`popover-${key}`),
      branchIndex: -1,
      ask: null,
      get run() {
        return sides[key].run;
      },
      get tokens() {
        return sides[key]?.tokens ?? [];
      },
      get ribbon() {
        return sides[key].nodes.lane;
      },
      walk: { pin: (index) => pin(sides[key], index) },
    };
  }

  // ------------------------------------------------------------------------------------------------------------- sharing

  // What both have in common by its name, what is one's own with a_ or b_ before it; see playground/generate/links.py.
  function linkBoth() {
    const query = {};
    const drawn = both().filter((side) => side.run);
    const isCommon = (name) => drawn.every(({ run }) => run[name] === drawn[0].run[name]);
    for (const { key, run } of drawn) {
      // two models may have been taught different forms of one question
      for (const name of ["prompt", "question"]) if (run[name]) query[isCommon(name) ? name : `${key}_${name}`] = run[name];
      const named = Object.entries(settingsToLink(run.sampling, props.defaults));
      for (const [name, value] of named) query[props.common.includes(name) ? name : `${key}_${name}`] = value;
      query[`${key}_model`] = run.model;
      if (run.release) query[`${key}_release`] = run.release;
    }
    return { ...query, lang: props.language };
  }

  // The table of both sides under one head, with the side in the first column.
  function tabulateBoth() {
    const drawn = both().filter((side) => side.run);
    const ranks = Math.max(0, ...drawn.map(({ run }) => (run.layers ? run.experts_per_token : 0)));
    const tables = drawn.map(({ run, tokens }) => tabulate(run, tokens, ranks));
    const rows = tables.flatMap((table, index) => table.slice(1).map((row) => [drawn[index].key.toUpperCase(), ...row]));
    return [["side", ...(tables[0]?.[0] ?? [])], ...rows];
  }

  function pin(side, index) {
    for (const each of both()) each.pinned = -1;
    side.pinned = Math.min(index, side.tokens.length - 1);
    showToken(side, side.pinned);
    const token = side.tokens[side.pinned];
    if (!token) return;
    token.column.setAttribute("aria-label", part("token").textContent);
    side.nodes.lane.setAttribute("aria-activedescendant", token.column.id);
    const box = part("scroll");
    const left = token.column.offsetLeft + side.nodes.lane.offsetLeft;
    if (left < box.scrollLeft + 60 || left > box.scrollLeft + box.clientWidth - 40) box.scrollLeft = left - box.clientWidth / 2;
  }

  function walk(side, event) {
    const popover = openPopover();
    if (event.key in KEY_STEPS) {
      popover?.close();
      pin(side, Math.max(0, side.pinned + KEY_STEPS[event.key]));
    } else if ((event.key === "Enter" || event.key === " ") && side.pinned >= 0) {
      popovers[side.key].open(side.pinned, side.tokens[side.pinned].column, true);
    } else if (event.key === "Escape" && popover) popover.close();
    else if (event.key === "Escape") pin(side, -1);
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const opposite = other(side);
      if (!opposite?.run) return;
      opposite.nodes.lane.focus();
      pin(opposite, Math.max(0, side.pinned));
    } else return;
    event.preventDefault();
  }

  // ------------------------------------------------------------------------------------------------------ texts and start

  function drawTexts() {
    toolkit.translate();
    terms.markAll();
    for (const popover of Object.values(popovers)) popover.redraw();
    for (const side of both()) if (side.run) buildLayers(side);
    if (both().length) draw();
  }

  function followHost() {
    const waiting = view.dataset.state === "waiting";
    if (host.busy === "waiting") {
      reset();
      view.dataset.state = "waiting";
      part("verdict").textContent = fill("waiting");
    } else if (host.busy === "stopped") stop();
    else if (host.busy !== "running" && waiting) reset();
  }

  // A stopped generation sends no end event.
  function stop() {
    for (const side of both()) side.ended = true;
    if (both().length) draw();
    else reset();
  }

  watch("busy", followHost);
  toolkit.watchValue(readValue);
  watch("texts", drawTexts);
  readValue();
  drawTexts();
}
