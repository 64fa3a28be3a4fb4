// All that is known of one token, in a popover at its place: what else might have stood there, from where one can branch,
// and which experts read it, why, and with what weight.

const GAP = 10; // pixels between the popover and its token
const LEAST_HEIGHT = 280;
const NARROW = matchMedia("(max-width: 820px)");

let opened = -1; // the token whose popover is open
let anchor = null; // its span or its column
let opener = null; // where the focus goes back to

function openToken(index, at, byKey) {
  if (!tokens[index]) return;
  opened = index;
  anchor = at;
  opener = byKey ? element.ownerDocument.activeElement : null;
  pin(index);
  drawPopover();
  const box = part("popover");
  box.hidden = false;
  placePopover();
  revealPopover();
  if (byKey) (box.querySelector(".av-alt") || box).focus({ preventScroll: true });
}

function closeToken() {
  if (opened < 0) return;
  const box = part("popover");
  if (box.contains(element.ownerDocument.activeElement)) (opener || part("columns")).focus({ preventScroll: true });
  opened = -1;
  box.hidden = true;
  box.replaceChildren();
}

// Below its token, or above where there is more room; on a narrow screen below the whole ribbon. It lies over the page
// and takes no room in it, so that nothing jumps.
function placePopover() {
  if (opened < 0) return;
  const box = part("popover");
  const frame = view.getBoundingClientRect();
  const wide = !NARROW.matches;
  const at = (wide || !run.layers ? anchor : part("ribbon")).getBoundingClientRect();
  const below = innerHeight - at.bottom - 2 * GAP;
  const above = at.top - 2 * GAP;
  const under = !wide || below >= LEAST_HEIGHT || below >= above;
  const least = wide ? LEAST_HEIGHT : innerHeight / 2;
  box.style.maxHeight = `${Math.max(under ? below : above, least)}px`;
  box.style.top = `${(under ? at.bottom + GAP : at.top - GAP - box.offsetHeight) - frame.top}px`;
  const middle = at.left + at.width / 2 - frame.left;
  box.style.left = wide ? `${Math.max(8, Math.min(middle - 48, frame.width - box.offsetWidth - 8))}px` : 0;
}

// Moves the page as far as the popover reaches out of sight, but never its token out of sight.
function revealPopover() {
  const hidden = part("popover").getBoundingClientRect().bottom + GAP - innerHeight;
  const room = anchor.getBoundingClientRect().top - GAP;
  const top = Math.min(hidden, room);
  if (top > 0) scrollBy({ top, behavior: calm() ? "auto" : "smooth" });
}

function drawPopover() {
  const { step } = tokens[opened];
  const box = part("popover");
  const head = make("p", "av-token-title");
  head.append(quote(step), make("span", "", fill("token", { token: step.i + 1 })), make("span", "", describeChance(step)));
  const mark = describeMark(opened);
  if (mark) head.append(make("span", "", mark));
  const close = make("button", "av-close", "×");
  close.type = "button";
  close.setAttribute("aria-label", fill("close"));
  close.addEventListener("click", closeToken);
  head.append(close);
  box.setAttribute("aria-label", `${fill("token", { token: step.i + 1 })}: ${visible(step.t)}`);
  box.replaceChildren(head);
  if (!step.prompt && step.alt.length) box.append(...describeAlternatives(step));
  if (step.e.length) box.append(make("h3", "", fill("experts")), describeChoice(step));
  if (run.shared_experts) {
    const key = run.shared_experts === 1 ? "shared_one" : "shared_many";
    box.append(make("p", "av-hint", fill(key, { count: run.shared_experts })));
  }
}

// --------------------------------------------------------------------------------------------------- words for a token

const endsText = (id) => run.ends.includes(id);
const describeChance = (step) => (step.p === null ? fill("from_prompt") : fill("probability", { p: percent(step.p) }));
const wordOf = (id, text) => (endsText(id) ? fill("end_of_text") : text ? `“${visible(text)}”` : fill("no_text"));

function quote({ t }) {
  return make("q", "", visible(t));
}

function describeMark(index) {
  if (index === branchIndex) return fill("mark_branch");
  return tokens[index].span.classList.contains("av-kept") ? fill("mark_kept") : "";
}

// ---------------------------------------------------------------------------------------------------- what else might be

function describeAlternatives(step) {
  const list = make("ul", "av-alts");
  const named = step.alt.some(([id]) => id === step.id);
  for (const [id, text, p] of named ? step.alt : [[step.id, step.t, step.p], ...step.alt]) {
    const button = make("button", "av-alt");
    button.type = "button";
    const bar = make("i", "");
    bar.style.transform = `scaleX(${p})`;
    const word = endsText(id) ? make("em", "", fill("end_of_text")) : make("q", "", visible(text));
    button.append(bar, word, make("span", "", percent(p)));
    if (id === step.id) button.append(make("small", "", fill("stands_here")));
    button.setAttribute("aria-label", fill("branch_to", { word: wordOf(id, text), p: percent(p) }));
    button.addEventListener("click", () => branch(step, id));
    const item = make("li", "");
    item.append(button);
    list.append(item);
  }
  return [make("h3", "", fill("alternatives")), list];
}

// A new generation with the same prompt and sampling; it keeps the new tokens before this one and takes another here.
function branch(step, id) {
  const kept = tokens.filter((token) => !token.step.prompt && token.step.i < step.i).map((token) => token.step.id);
  const instead = id === step.id ? null : wordOf(step.id, step.t);
  const { model, prompt, sampling } = run;
  ask({ model, prompt, sampling, forced: [...kept, id] }, instead);
  closeToken();
}

// ------------------------------------------------------------------------------------------------- which experts, and why

// The bias only chooses and the gate only weighs, so they stand in columns of their own.
function describeChoice(step) {
  const table = make("table", "av-choice");
  const head = table.createTHead().insertRow();
  for (const key of ["", "", "gate", "choice"]) {
    const cell = make("th", "", key && fill(key));
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  step.e.forEach((experts, row) => {
    experts.forEach((expert, rank) => body.append(describeExpert(step, row, rank)));
    if (step.d[row].length) body.append(describeDisplaced(step.d[row], row));
  });
  return table;
}

function describeExpert(step, row, rank) {
  const line = make("tr", rank ? "" : "av-first");
  const layer = make("th", "", rank ? "" : `L${run.first_layer + row}`);
  const name = make("td", "");
  name.append(expertName(step.e[row][rank]));
  const weight = make("td", "av-gate");
  const [gate, all] = [step.g[row][rank], step.g[row].reduce((sum, value) => sum + value, 0)];
  const track = make("div", "");
  const bar = make("i", "");
  paint(bar, step.e[row][rank], run.experts);
  bar.style.transform = `scaleX(${gate / all})`;
  track.append(bar);
  weight.append(track, make("span", "", percent(gate)));
  line.append(layer, name, weight, make("td", "av-sum", describeSum(step.a[row][rank], run.bias[row][step.e[row][rank]])));
  return line;
}

function describeDisplaced(experts, row) {
  const line = make("tr", "av-displaced");
  const cell = make("td", "");
  cell.colSpan = 3;
  const [before, after] = fill("displaced", { experts: "\0" }).split("\0");
  cell.append(before);
  experts.forEach((expert, index) => {
    cell.append(index ? ", " : "", expertName(expert), ` (${fill("bias")} ${signed(run.bias[row][expert])})`);
  });
  cell.append(after);
  line.append(make("th", ""), cell);
  return line;
}

function expertName(expert) {
  const name = make("b", "", `E${expert + 1}`);
  paint(name, expert, run.experts);
  return name;
}

const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(3)}`;

// Of the rounded numbers, so that what is read adds up.
function describeSum(affinity, bias) {
  const [a, b] = [Number(affinity.toFixed(3)), Number(bias.toFixed(3))];
  return `${a.toFixed(3)} ${b < 0 ? "−" : "+"} ${Math.abs(b).toFixed(3)} = ${(a + b).toFixed(3)}`;
}

// ------------------------------------------------------------------------------------------------------- keys and clicks

part("popover").addEventListener("keydown", (event) => {
  const buttons = [...part("popover").querySelectorAll(".av-alt")];
  const at = buttons.indexOf(event.target);
  if (event.key === "Escape") closeToken();
  else if (event.key === "ArrowDown" && buttons.length) buttons[(at + 1) % buttons.length].focus();
  else if (event.key === "ArrowUp" && buttons.length) buttons.at(at < 1 ? -1 : at - 1).focus();
  else return;
  event.preventDefault();
  event.stopPropagation();
});

element.ownerDocument.addEventListener("pointerdown", (event) => {
  if (opened >= 0 && !event.target.closest?.("[data-part=popover], [data-index]")) closeToken();
});
for (const name of ["text", "columns"]) part(name).addEventListener("scroll", placePopover);
addEventListener("resize", placePopover);
