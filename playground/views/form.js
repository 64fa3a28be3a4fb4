// The form of a problem in a text: question, reasoning and answer as parts, with headings in the reader's language. All
// tokens stay in their order; those of the taught headings are hidden until the text is shown as the model reads it.

import { make } from "./toolkit.js";

const START = "# Pergunta:\n";
const HEADINGS = { [START]: "question", "# Raciocínio:\n": "reasoning", "# Resposta:\n": "answer" };
const SEPARATOR = "\n--\n";
const WORKING = /^[0-9+*/=<()-]+(?:;[0-9+*/()-]*)*;$/; // a line such as 7+4=11;263+750;1, up to a semicolon
const COLUMNS = ["working_step", "working_left", "working_done"];

/** Puts tokens into `box`. `fill` gives the texts part_question and so on. */
export function createForm(box, fill) {
  let text = ""; // all that was read and written
  let tokens = []; // {span, from, to}, its place in the text
  let formed = false; // whether the text has the form of a problem
  let part = null; // {kind, root, name, frame, body}, the last one
  let opening = -1; // where a separator begins whose heading is not complete, or 0 for the first heading
  let line = null; // {root, cell, text}, the line of a reasoning that is being written

  /** Begins a text. Of what the model reads, `read` is not shown: its tokens are not added. */
  function begin(prompt, read = "") {
    box.replaceChildren();
    box.classList.remove("av-formed");
    text = "";
    tokens = [];
    part = line = null;
    formed = prompt.startsWith(START);
    opening = formed ? 0 : -1;
    if (!formed) return;
    box.classList.add("av-formed");
    openPart();
    text = read;
    if (!read) return;
    const last = read.lastIndexOf(SEPARATOR);
    if (last >= 0) opening = last;
    settle();
  }

  /** Adds the next token. */
  function add(span, shown) {
    if (!formed) {
      box.append(span);
      return;
    }
    tokens.push({ span, from: text.length, to: text.length + shown.length });
    text += shown;
    if (opening < 0) write(span, shown);
    else part.frame.append(span);
    if (opening < 0) findSeparator(text.length - shown.length);
    if (opening >= 0) settle();
  }

  function findSeparator(from) {
    const at = text.indexOf(SEPARATOR, Math.max(0, from - SEPARATOR.length + 1));
    if (at < 0) return;
    opening = at;
    closeLine();
    const before = part.body;
    openPart();
    part.frame.append(...tokens.filter((token) => token.from >= at).map(({ span }) => span));
    for (const emptied of before.querySelectorAll(".av-line")) if (!emptied.textContent) emptied.remove();
  }

  // Names the part once its heading is complete, or shows what stands in its place.
  function settle() {
    const start = opening + (text.startsWith(SEPARATOR, opening) ? SEPARATOR.length : 0);
    const rest = text.slice(start);
    const heading = Object.keys(HEADINGS).find((each) => rest.startsWith(each));
    if (!heading && Object.keys(HEADINGS).some((each) => each.startsWith(rest))) return;
    part.kind = heading ? HEADINGS[heading] : "";
    part.root.dataset.kind = part.kind;
    drawName(part);
    const end = heading ? start + heading.length : opening;
    opening = -1;
    for (const { span, from, to } of tokens.filter((token) => token.span.parentNode === part.frame)) {
      if (from >= end || to > end) write(span, text.slice(from, to));
    }
  }

  function openPart() {
    const root = make("div", "av-part");
    part = { kind: "", root, name: make("b", "av-part-name"), frame: make("span", "av-frame"), body: make("div", "av-part-body") };
    root.append(part.name, part.frame, part.body);
    box.append(root);
  }

  function drawName({ kind, name }) {
    name.dataset.name = kind ? fill(`part_${kind}`) : ""; // drawn by the style sheet: the text is the model's alone
  }

  // ---------------------------------------------------------------------------------------------- lines of a reasoning

  function write(span, shown) {
    if (part.kind !== "reasoning") {
      part.body.append(span);
      return;
    }
    line ??= openLine();
    line.text += shown;
    line.cell.append(span);
    if (shown.includes("\n")) closeLine();
    else if (shown.endsWith(";") && WORKING.test(line.text)) nextCell(span, shown);
  }

  function openLine() {
    const opened = { root: make("div", "av-line"), cell: make("span", "av-cell-of-line"), text: "" };
    opened.root.append(opened.cell);
    part.body.append(opened.root);
    return opened;
  }

  function nextCell(span, shown) {
    if (!line.root.classList.contains("av-working")) {
      line.root.classList.add("av-working");
      if (!part.body.querySelector(".av-working-head")) line.root.before(makeHead());
    }
    if (shown === ";") span.classList.add("av-semicolon");
    line.cell = make("span", "av-cell-of-line");
    line.root.append(line.cell);
  }

  // What a line ends with is the result so far, whether something is left or not.
  function closeLine() {
    if (line?.root.classList.contains("av-working")) line.cell.classList.add("av-done");
    line = null;
  }

  // A heading that stayed incomplete is text.
  function close() {
    closeLine();
    if (opening < 0 || !part) return;
    opening = -1;
    part.root.dataset.kind = "";
  }

  function makeHead() {
    const head = make("div", "av-working av-working-head");
    for (const key of COLUMNS) {
      const column = make("span", "");
      column.dataset.name = fill(key);
      head.append(column);
    }
    return head;
  }

  // ------------------------------------------------------------------------------------------------------------- texts

  /** Marks the line of the reasoning with this number, from 1, as wrong. */
  function markLine(number) {
    box.querySelectorAll(".av-line")[number - 1]?.classList.add("av-wrong-line");
  }

  function drawTexts() {
    for (const root of box.querySelectorAll(".av-part[data-kind]")) {
      drawName({ kind: root.dataset.kind, name: root.firstChild });
    }
    for (const head of box.querySelectorAll(".av-working-head")) head.replaceWith(makeHead());
  }

  /** The spans of the last answer; none where the text has no answer yet. */
  function answer() {
    return part?.kind === "answer" ? [...part.body.querySelectorAll("[data-index]")] : [];
  }

  return { begin, add, answer, markLine, drawTexts, isFormed: () => formed, close };
}

/** For `createJoiner`: the form has put the tokens into their places already. */
export const PLACED = { append() {} };

/** What is seen of a token: its span, or the heading of which it is a part. */
export function seenOf(span) {
  return span.offsetParent ? span : (span.closest(".av-part")?.querySelector(".av-part-name") ?? span);
}

/** Whether the answer is right, as far as it is known, and how sure the model was: a text, with a class for its mark. */
export function describeAnswer(check, probability, { fill, percent }) {
  const parts = [];
  if (check) parts.push(fill(check.right ? "answer_right" : "answer_wrong", check));
  if (check?.line) parts.push(fill("answer_line", check));
  if (probability !== null) parts.push(fill("answer_sure", { p: percent(probability) }));
  return { text: parts.join(" "), mark: check ? (check.right ? "av-right" : "av-wrong") : "" };
}

/** The probability of all tokens together; null where there are none. */
export function together(steps) {
  const known = steps.filter(({ p }) => p !== null);
  return known.length ? known.reduce((product, { p }) => product * p, 1) : null;
}
