// A drawing of one token's way through one layer, with its real numbers: attention and what the cache keeps, the router's
// scores, the experts that read it with their weights, and the token that came next.

import { paint, PALETTE } from "./routing.js";
import { prefersCalm } from "./toolkit.js";

const WIDTH = 384;
const HEIGHT = 188;
const MIDDLE = 88; // the height at which the token travels
const SEEN = 14; // earlier tokens whose weights have a bar
const LETTERS = 6; // of a token that its box has room for
const SECONDS = 1.5; // for one way along a part of the drawing
const TIMES = 3; // then it rests

/**
 * @param {object} shown What is drawn:
 *   stage: the part that is lit, "text", "tokens", "attention", "router", "experts" or "next";
 *   token, next: texts; weights: of the tokens up to this one, or null; cache: what a layer keeps, as a text;
 *   experts: [{expert, name, score, gate}], those of the layer that have room, the gate null where not chosen; all: how
 *   many experts there are; shared: whether there is a shared expert; labels: {attention, cache, router, network, shared}.
 */
export function drawFlow(shown) {
  const picture = shape("svg", { class: "av-flow", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true", "data-stage": shown.stage });
  const rows = placeRows(shown);
  picture.append(...drawWays(rows), drawToken(shown), drawAttention(shown), drawNetworks(shown, rows), drawNext(shown));
  if (!prefersCalm()) picture.append(...waysOf(shown.stage, rows).map(travel));
  return picture;
}

// The place of each expert, of the shared one, and of the only network of a dense layer.
function placeRows({ experts, shared }) {
  const all = [...experts, ...(shared ? [{ shared, gate: 1 }] : [])];
  if (!all.length) all.push({ gate: 1 });
  const gap = Math.min(26, 148 / all.length);
  return all.map((row, at) => ({ ...row, y: MIDDLE + gap * (at - (all.length - 1) / 2) }));
}

const ROUTER = 176;
const BAR = 44; // the length of a score of 1
const EXPERT = 284;
const SUM = 324;

const works = (row) => row.gate !== null;
const wayIn = ({ y }) => `M156 ${MIDDLE} C172 ${MIDDLE} 164 ${y} ${ROUTER} ${y} L${EXPERT} ${y}`;
const wayOut = ({ y }) => `M${EXPERT} ${y} C306 ${y} 306 ${MIDDLE} ${SUM} ${MIDDLE}`;

function waysOf(stage, rows) {
  const read = rows.filter(works);
  return {
    text: [`M0 ${MIDDLE} L62 ${MIDDLE}`],
    tokens: [`M0 ${MIDDLE} L84 ${MIDDLE}`],
    attention: [`M62 ${MIDDLE} L156 ${MIDDLE}`, `M120 ${MIDDLE} L120 160`],
    router: rows.map(wayIn),
    experts: read.map((row) => `${wayIn(row)} ${wayOut(row).replace(/^M/, "L")}`),
    next: [`M${SUM} ${MIDDLE} L362 ${MIDDLE}`],
  }[stage];
}

function travel(way) {
  const dot = shape("circle", { r: 4, class: "av-dot-moving" });
  dot.append(shape("animateMotion", { path: way, dur: `${SECONDS}s`, repeatCount: TIMES, fill: "freeze" }));
  return dot;
}

function drawWays(rows) {
  const line = (d, width = 1.5) => shape("path", { d, class: "av-way", "stroke-width": width });
  const inside = rows.filter(works).map((row) => line(wayIn(row)));
  const outside = rows.filter(works).map((row) => line(wayOut(row), 1.5 + 5 * row.gate));
  return [line(`M62 ${MIDDLE} L84 ${MIDDLE}`), line("M120 128 L120 148"), ...inside, ...outside, line(`M${SUM} ${MIDDLE} L338 ${MIDDLE}`)];
}

function drawToken({ token }) {
  return group("text tokens", box(4, 70, 58, 36), text(33, MIDDLE + 4, cut(token), "av-mono"));
}

function drawAttention({ weights, cache, labels }) {
  const last = (weights ?? []).slice(-SEEN);
  const most = Math.max(...last, 1e-9);
  const width = 64 / SEEN;
  const bars = last.map((weight, at) => {
    const height = 62 * (weight / most);
    return shape("rect", { x: 88 + at * width, y: 124 - height, width: width - 1, height, class: "av-ink" });
  });
  return group(
    "attention",
    text(120, 42, labels.attention),
    box(84, 52, 72, 76),
    ...bars,
    box(84, 148, 72, 24),
    text(120, 164, cache, "av-mono"),
    text(120, 184, labels.cache),
  );
}

function drawNetworks({ experts, all, labels }, rows) {
  const nodes = rows.map((row) => drawNetwork(row, all, labels));
  const router = experts.length ? [text(ROUTER + BAR / 2, 10, labels.router)] : [];
  const left = all - experts.length;
  if (experts.length && left > 0) router.push(text(EXPERT - 12, HEIGHT - 4, `+ ${left}`));
  return group("router experts", ...router, ...nodes);
}

function drawNetwork(row, all, labels) {
  const node = shape("circle", { cx: EXPERT, cy: row.y, r: 8, class: works(row) ? "av-node" : "av-node av-idle" });
  const parts = [node];
  if (row.name) {
    paint(node, row.expert, Math.max(all, PALETTE));
    parts.push(shape("rect", { x: ROUTER, y: row.y - 5, width: BAR, height: 10, class: "av-track" }));
    parts.push(shape("rect", { x: ROUTER, y: row.y - 5, width: BAR * row.score, height: 10, class: works(row) ? "av-ink" : "av-faint" }));
    parts.push(text(EXPERT - 24, row.y + 4, row.name, works(row) ? "av-mono av-strong" : "av-mono"));
  } else {
    node.classList.add("av-plain");
    parts.push(text(EXPERT - 44, row.y - 4, row.shared ? labels.shared : labels.network));
  }
  return group("", ...parts);
}

function drawNext({ next }) {
  const sum = shape("circle", { cx: SUM, cy: MIDDLE, r: 9, class: "av-sum-node" });
  return group("next", sum, text(SUM, MIDDLE + 4, "+"), box(338, 70, 44, 36), text(360, MIDDLE + 4, cut(next, 4), "av-mono"));
}

const cut = (word, most = LETTERS) => ([...word].length > most ? `${[...word].slice(0, most - 1).join("")}…` : word);

const box = (x, y, width, height) => shape("rect", { x, y, width, height, rx: 6, class: "av-box" });

function text(x, y, words, className = "") {
  const node = shape("text", { x, y, class: className, "text-anchor": "middle" });
  node.textContent = words;
  return node;
}

/** A part of the drawing, lit in these stages. */
function group(stages, ...children) {
  const node = shape("g", { "data-stages": stages });
  node.append(...children);
  return node;
}

function shape(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
