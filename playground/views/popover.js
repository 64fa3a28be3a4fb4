// The popover of one token: its alternatives, from which one can branch, and the experts that read it, with the reason for
// their choice and their weights.

import { layerOf, loopLabel, makeExpert, paint } from "./routing.js";
import { make, NARROW, prefersCalm } from "./toolkit.js";

const GAP = 10; // pixels between the popover and its token
const LEAST_HEIGHT = 280;

export function createPopover(trace) {
  const { part, fill, visible, percent, percents, threeDigits } = trace.toolkit;
  const document = trace.host.element.ownerDocument;
  const box = trace.box ?? part("popover");
  let opened = -1; // the token whose popover is open
  let anchor = null; // its span or its column
  let opener = null; // where the focus goes back to

  function open(index, at, byKey) {
    if (!trace.tokens[index]) return;
    opened = index;
    anchor = at;
    opener = byKey ? document.activeElement : null;
    trace.walk.pin(index);
    draw();
    box.hidden = false;
    place();
    reveal();
    if (byKey) (box.querySelector("button.av-alt") || box).focus({ preventScroll: true });
  }

  function close() {
    if (opened < 0) return;
    if (box.contains(document.activeElement)) (opener || anchor.closest("[tabindex]"))?.focus({ preventScroll: true });
    opened = -1;
    box.hidden = true;
    box.replaceChildren();
  }

  // Below the token, or above it if there is more room; on a narrow screen below the whole ribbon. It is positioned over
  // the page, so that the layout does not shift.
  function place() {
    if (opened < 0) return;
    const frame = trace.view.getBoundingClientRect();
    const wide = !NARROW.matches;
    const at = (wide || !trace.run.layers ? anchor : trace.ribbon).getBoundingClientRect();
    const below = innerHeight - at.bottom - 2 * GAP;
    const above = at.top - 2 * GAP;
    const under = !wide || below >= LEAST_HEIGHT || below >= above;
    const least = wide ? LEAST_HEIGHT : innerHeight / 2;
    box.style.maxHeight = `${Math.max(under ? below : above, least)}px`;
    box.style.top = `${(under ? at.bottom + GAP : at.top - GAP - box.offsetHeight) - frame.top}px`;
    const middle = at.left + at.width / 2 - frame.left;
    box.style.left = wide ? `${Math.max(8, Math.min(middle - 48, frame.width - box.offsetWidth - 8))}px` : 0;
  }

  // Scrolls the page until the popover is visible, as far as its token stays visible.
  function reveal() {
    const hidden = box.getBoundingClientRect().bottom + GAP - innerHeight;
    const room = anchor.getBoundingClientRect().top - GAP;
    const top = Math.min(hidden, room);
    if (top > 0) scrollBy({ top, behavior: prefersCalm() ? "auto" : "smooth" });
  }

  function draw() {
    const { run } = trace;
    const { step } = trace.tokens[opened];
    const head = makeTitle(opened);
    const cross = make("button", "av-close", "×");
    cross.type = "button";
    cross.setAttribute("aria-label", fill("close"));
    cross.addEventListener("click", close);
    head.append(cross);
    box.setAttribute("aria-label", `${fill("token", { token: step.i + 1 })}: ${nameOfToken(opened)}`);
    box.replaceChildren(head);
    if (!step.prompt && step.alt.length) box.append(make("h3", "", fill(trace.ask ? "alternatives" : "likeliest")), makeAlternatives(step));
    if (step.e.length) box.append(make("h3", "", fill("experts")), makeChoice(step));
    if (step.e.length && trace.tamper) box.append(trace.tamper.makeActions(step));
    if (run.shared_experts) {
      const key = run.shared_experts === 1 ? "shared_one" : "shared_many";
      box.append(make("p", "av-hint", fill(key, { count: run.shared_experts })));
    }
    for (const node of box.querySelectorAll("h3, th, .av-hint")) trace.terms.mark(node);
  }

  // ------------------------------------------------------------------------------------------------- a token in words

  const endsText = (id) => trace.run.ends.includes(id);
  const isPiece = (text) => text === "\ufffd"; // a byte that is no character by itself
  const wordOf = (id, text) => {
    if (endsText(id)) return fill("end_of_text");
    if (isPiece(text)) return fill("piece_of_character");
    return text ? `“${visible(text)}”` : fill("no_text");
  };

  /** The text of a token; of a part of a character, which character and which part. */
  function nameOfToken(index) {
    const { step, piece } = trace.tokens[index];
    return piece ? fill("piece", { ...piece, text: visible(piece.text) }) : visible(step.t);
  }

  /** The token, its number and its probability in one line. */
  function makeTitle(index) {
    const { step } = trace.tokens[index];
    const chance = step.p === null ? fill("from_prompt") : fill("probability", { p: percent(step.p) });
    const words = [fill("token", { token: step.i + 1 }), chance, describeMark(index)];
    const title = make("p", "av-token-title");
    title.append(make("q", "", nameOfToken(index)), ...words.filter(Boolean).map((word) => make("span", "", word)));
    return title;
  }

  function describeMark(index) {
    if (index === trace.branchIndex) return fill("mark_branch");
    return trace.tokens[index].span.classList.contains("av-kept") ? fill("mark_kept") : "";
  }

  /** The experts of every layer, with their weights. */
  function makeExperts(step) {
    const list = make("p", "av-token-experts");
    step.e.forEach((experts, row) => {
      const line = make("span", "", loopLabel(trace.run, row));
      const weights = percents(step.g[row]);
      experts.forEach((expert, rank) => line.append(nameOf(row, expert), ` ${weights[rank]} `));
      list.append(line, " ");
    });
    return list;
  }

  const nameOf = (row, expert) => makeExpert("b", "", trace.run, row, expert);

  // --------------------------------------------------------------------------------------------------- alternatives

  function makeAlternatives(step) {
    const list = make("ul", "av-alts");
    const named = step.alt.some(([id]) => id === step.id);
    for (const [id, text, p] of named ? step.alt : [[step.id, step.t, step.p], ...step.alt]) {
      const button = make(trace.ask ? "button" : "div", "av-alt");
      const bar = make("i", "");
      bar.style.transform = `scaleX(${p})`;
      const word = endsText(id) || isPiece(text) ? make("em", "", wordOf(id, text)) : make("q", "", visible(text));
      button.append(bar, word, make("span", "", percent(p)));
      if (id === step.id) button.append(make("small", "", fill("chosen_here")));
      if (trace.ask) {
        button.type = "button";
        button.title = fill("branch_to", { word: wordOf(id, text), p: percent(p) });
        button.addEventListener("click", () => branch(step, id, text));
      }
      const item = make("li", "");
      item.append(button);
      list.append(item);
    }
    return list;
  }

  // Requests a generation with the same prompt and sampling that keeps the new tokens before this one and takes `id` here.
  function branch(step, id, text) {
    const kept = trace.tokens.filter((token) => !token.step.prompt && token.step.i < step.i).map((token) => token.step.id);
    const instead = id === step.id ? null : wordOf(step.id, step.t);
    const { model, prompt, question, sampling } = trace.run;
    const describe = () => fill("branch_node", { token: step.i + 1, word: wordOf(id, text) });
    trace.ask({ model, prompt, question, sampling, forced: [...kept, id] }, { from: trace.branches.current(), describe, instead });
    close();
  }

  // -------------------------------------------------------------------------------------------- the choice of experts

  // The bias only chooses and the gate only weighs, so they have separate columns.
  function makeChoice(step) {
    const table = make("table", "av-choice");
    const head = table.createTHead().insertRow();
    for (const key of ["", "", "gate", "choice"]) {
      const cell = make(key ? "th" : "td", "", key && fill(key));
      if (key) cell.scope = "col";
      head.append(cell);
    }
    const body = table.createTBody();
    step.e.forEach((experts, row) => {
      experts.forEach((_, rank) => body.append(makeChosen(step, row, rank)));
      if (step.d[row].length) body.append(makeDisplaced(step.d[row], row));
    });
    return table;
  }

  function makeChosen(step, row, rank) {
    const { run } = trace;
    const expert = step.e[row][rank];
    const line = make("tr", rank ? "" : "av-first");
    const name = make("td", "");
    name.append(nameOf(row, expert));
    const weight = make("td", "av-gate");
    const [gate, all] = [step.g[row][rank], step.g[row].reduce((sum, value) => sum + value, 0)];
    const track = make("div", "");
    const bar = make("i", "");
    paint(bar, expert, run.experts);
    bar.style.transform = `scaleX(${gate / all})`;
    track.append(bar);
    weight.append(track, make("span", "", percents(step.g[row])[rank]));
    const sum = make("td", "av-sum", describeSum(step.a[row][rank], run.bias[row][expert]));
    line.append(rank ? make("td", "") : makeRowHead(`L${layerOf(run, row)}`), name, weight, sum);
    return line;
  }

  function makeDisplaced(experts, row) {
    const line = make("tr", "av-displaced");
    const cell = make("td", "");
    cell.colSpan = 3;
    const [before, after] = fill("displaced", { experts: "\0" }).split("\0");
    cell.append(before);
    experts.forEach((expert, index) => {
      const bias = trace.run.bias[row][expert];
      const signed = `${bias < 0 ? "−" : "+"}${threeDigits(Math.abs(bias))}`;
      cell.append(index ? ", " : "", nameOf(row, expert), ` (${fill("bias")} ${signed})`);
    });
    cell.append(after);
    line.append(make("td", ""), cell);
    return line;
  }

  function makeRowHead(text) {
    const head = make("th", "", text);
    head.scope = "row";
    return head;
  }

  // The sum of the rounded numbers, so that what is read adds up.
  function describeSum(affinity, bias) {
    const [a, b] = [Number(affinity.toFixed(3)), Number(bias.toFixed(3))];
    return `${threeDigits(a)} ${b < 0 ? "−" : "+"} ${threeDigits(Math.abs(b))} = ${threeDigits(a + b)}`;
  }

  // -------------------------------------------------------------------------------------------------- keys and clicks

  box.addEventListener("keydown", (event) => {
    const buttons = [...box.querySelectorAll("button.av-alt")];
    const at = buttons.indexOf(event.target);
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown" && buttons.length) buttons[(at + 1) % buttons.length].focus();
    else if (event.key === "ArrowUp" && buttons.length) buttons.at(at < 1 ? -1 : at - 1).focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  document.addEventListener("pointerdown", (event) => {
    if (opened >= 0 && !event.target.closest?.("[data-part=popover], [data-index]")) close();
  });
  trace.view.addEventListener("scroll", ({ target }) => target !== box && place(), true); // the boxes in it
  addEventListener("resize", place);

  function redraw() {
    if (opened < 0) return;
    draw();
    place();
  }

  return { open, close, redraw, index: () => opened, makeTitle, makeExperts, nameOfToken, wordOf };
}
