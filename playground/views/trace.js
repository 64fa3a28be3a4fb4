// Draws a trace. The value is NDJSON that only grows; what was added is read and drawn in the next animation frame.

const view = part("view");
let seen = ""; // the part of the value that was read
let run = null; // the start event
let tokens = []; // {step, span, column}, one per token
let outcome = null; // the end event
let failure = null; // the error event
let ended = true;
let branchIndex = -1; // the token that a branch took
let asked = null; // {wish, instead}: what this view asked for last
let instead = null; // the word in whose place the shown branch took its own, where this view knows it
let refused = false; // the last wish came back without an answer
let stopped = false; // on the reader's own wish
let exampleDue = true; // nothing was asked since the model was chosen

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const state = () => view.dataset.state;
const atWork = () => state() === "running" || state() === "waiting";

// ---------------------------------------------------------------------------------------------------- reading events

function readValue() {
  const text = props.value || "";
  if (!seen || !text.startsWith(seen)) {
    if (isExample(text) && !exampleDue) return; // it comes late: its model was chosen, but then something was asked of it
    reset();
  }
  const complete = text.slice(seen.length, text.lastIndexOf("\n") + 1);
  if (!complete) return;
  skipReplay();
  seen += complete;
  takeAll(complete.trimEnd().split("\n").map((line) => JSON.parse(line)));
}

// What a model shows by itself: its recorded example, or nothing, or why it cannot be opened.
function isExample(text) {
  const { recorded, of } = text ? JSON.parse(text.slice(0, text.indexOf("\n"))) : { recorded: true };
  return recorded || of === "example";
}

function takeAll(events) {
  const batch = { text: new DocumentFragment(), columns: new DocumentFragment() };
  for (const event of events) take(event, batch);
  append(batch);
  drawFigures();
  followEnd(); // last, so that the browser lays the page out once
}

function take(event, batch) {
  if (event.kind === "start") begin(event);
  else if (event.kind === "open") ask(event, null);
  else if (event.kind === "error") fail(event);
  else if (ended) return; // what was still on its way when Stop was pressed
  else if (event.kind === "step") addToken(event, batch);
  else if (event.kind === "end") {
    append(batch);
    finish(event);
  }
}

function reset() {
  seen = "";
  endReplay();
  clear();
  setState("empty");
}

function clear() {
  closeToken();
  run = outcome = failure = null;
  tokens = [];
  pinned = shown = branchIndex = -1;
  ended = true;
  refused = false;
  following.text = following.columns = true;
  clearFigures();
  for (const name of ["text", "columns", "rows", "layers", "token"]) part(name).replaceChildren();
  delete part("text").dataset.end;
  part("text").classList.remove("av-branch");
  part("link").hidden = true;
  drawMessages();
}

function begin(start) {
  run = start;
  ended = false;
  layer = Math.min(layer, Math.max(run.layers - 1, 0));
  if (!replayed) instead = asked && same(asked.wish.forced, run.forced) ? asked.instead : null;
  if (!replayed) asked = null;
  view.classList.toggle("av-many", run.experts > PALETTE);
  view.classList.toggle("av-dense", run.layers === 0);
  buildLayers();
  buildLoad();
  showToken(-1);
  setState(replayed ? "replaying" : run.recorded ? "recorded" : "running");
  drawMessages();
  if (run.recorded || replayed) return;
  announce(fill("announce_start"));
  bringIntoSight();
}

const same = (one, other) => one.length === other.length && one.every((id, index) => id === other[index]);

function addToken(step, batch) {
  const index = tokens.length;
  const span = make("span", step.prompt ? "av-tok av-prompt" : "av-tok", step.t);
  if (/^\n+$/.test(step.t)) span.classList.add("av-newline");
  const column = make("div", step.prompt ? "av-col av-prompt" : "av-col");
  column.id = `axion-token-${index}`;
  column.setAttribute("role", "option");
  column.setAttribute("aria-label", visible(step.t));
  step.e.forEach((experts, row) => column.append(routingCell(experts, step.g[row], run.experts)));
  if (run.layers) paint(span, step.e[layer][0], run.experts);
  span.dataset.index = column.dataset.index = index;
  count(step);
  if (!step.prompt && tally.fresh <= run.forced.length) {
    const mark = tally.fresh < run.forced.length ? "av-kept" : "av-branch";
    for (const node of [span, column]) node.classList.add(mark);
    if (mark === "av-branch") branchIndex = index;
  }
  tokens.push({ step, span, column });
  batch.text.append(span);
  batch.columns.append(column);
}

// A live trace keeps its newest token in sight, unless the reader scrolled away or looks at a token.
const following = { text: true, columns: true };

function append(batch) {
  part("text").append(batch.text);
  part("columns").append(batch.columns);
}

function followEnd() {
  if (!run || opened >= 0 || (run.recorded && !replayed)) return;
  if (following.text) part("text").scrollTop = 1e9;
  if (following.columns) part("columns").scrollLeft = 1e9;
}

function watchScrolling(name) {
  const box = part(name);
  box.addEventListener("scroll", () => {
    const rest =
      name === "text"
        ? box.scrollHeight - box.scrollTop - box.clientHeight
        : box.scrollWidth - box.scrollLeft - box.clientWidth;
    following[name] = rest < 60;
  });
}

function finish(end) {
  ended = true;
  outcome = { kind: "end", ...end };
  if (end.reason === "eos" && run.forced.length > tally.fresh) part("text").classList.add("av-branch");
  drawFigures();
  setState(run.recorded ? "recorded" : "done");
  if (run.recorded || replayed) return;
  announce(fill("announce_end", { tokens: tokens.length, verdict: part("verdict").textContent }));
}

function fail(error) {
  ended = true;
  failure = error;
  setState(tokens.length ? "done" : "error");
  drawMessages();
}

// -------------------------------------------------------------------------------------------------- asking and waiting

// One generation at a time: a wish waits until the one before it has been stopped.
function ask({ model, prompt, sampling, forced }, replacedWord) {
  const wish = { model, prompt, sampling, forced };
  asked = { wish, instead: replacedWord };
  if (atWork()) {
    leave();
    trigger("stop", {});
  }
  submit(wish);
}

// Stop cuts the stream in the server, so that no last line comes.
view.addEventListener("stop", stop);

function stop() {
  if (atWork()) leave();
  stopped = true;
  skipReplay();
  if (run && !ended) finish({ reason: "stopped" });
}

// Another model was chosen.
view.addEventListener("choose", () => {
  stop();
  exampleDue = true;
});

view.addEventListener("rest", rested);

// Gradio marks a component as pending from the wish until its first data, and no longer when the wish is refused.
let before = null; // the state to go back to
const pending = element.closest(".html-container");

function followQueue() {
  if (!pending.classList.contains("pending")) {
    if (state() === "waiting") requestAnimationFrame(() => requestAnimationFrame(endWait)); // the data may be under way
  } else if (state() !== "waiting") {
    skipReplay();
    before = state();
    refused = stopped = exampleDue = false;
    setState("waiting");
    drawMessages();
    announce(fill("waiting"));
    bringIntoSight();
  }
}

function endWait() {
  if (state() !== "waiting") return;
  refused = !stopped;
  exampleDue = true;
  setState(before);
  drawMessages();
  if (refused) announce(fill("refused"));
  readValue();
}

// ---------------------------------------------------------------------------------------------------------------- words

function drawWords() {
  for (const node of element.querySelectorAll("[data-text]")) node.textContent = fill(node.dataset.text);
  for (const node of element.querySelectorAll("[data-label]")) node.setAttribute("aria-label", fill(node.dataset.label));
  part("replay").textContent = fill(replayed ? "replay_stop" : "replay");
  part("replay").setAttribute("aria-pressed", Boolean(replayed));
  setState(state());
  drawMessages();
  if (!run) return;
  buildLayers();
  drawFigures();
  if (opened >= 0) {
    drawPopover();
    placePopover();
  }
  showToken(shown);
}

function setState(name) {
  view.dataset.state = name;
  part("status").textContent = describeState(name);
  part("replay").disabled = !replayed && (!ended || !tokens.length || !outcome);
  if (outcome?.reason === "eos") part("text").dataset.end = fill("end_of_text");
}

function describeState(name) {
  if (name === "waiting") return fill("waiting");
  if (!run || name === "error") return "";
  const parts = [fill(name, { model: run.model, draw: describeDraw() })];
  if (name === "done" && outcome) parts.push(fill(outcome.reason, outcome));
  if (run.forced.length && (branchIndex >= 0 || ended)) parts.push(describeBranch());
  return parts.join(" · ");
}

function describeDraw() {
  const { temperature, seed } = run.sampling;
  return temperature === 0 ? fill("greedy") : fill("seeded", { seed, temperature });
}

// A branch may have taken the end of the text, for which no token stands there.
function describeBranch() {
  const taken = tokens[branchIndex]?.step;
  const word = taken ? wordOf(taken.id, taken.t) : fill("end_of_text");
  const token = taken ? taken.i + 1 : tokens.length + 1;
  return fill(instead ? "branch_instead" : "branch", { token, word, instead });
}

function drawMessages() {
  part("error").hidden = !failure;
  part("error").textContent = failure ? (failure.of === "link" ? fill("bad_link", failure) : failure.message) : "";
  const notes = [];
  if (run?.dropped) notes.push(fill("dropped", run));
  if (refused) notes.push(fill("refused"));
  part("note").hidden = !notes.length;
  part("note").textContent = notes.join(" ");
}

function announce(text) {
  part("live").textContent = text;
}

// On a narrow screen the controls stand below the view: without this, Generate would seem to do nothing.
function bringIntoSight() {
  const { top, bottom } = view.getBoundingClientRect();
  if (top >= 0 || bottom > innerHeight / 2) return;
  view.scrollIntoView({ block: "start", behavior: calm() ? "auto" : "smooth" });
}

// ---------------------------------------------------------------------------------------------------------------- start

new MutationObserver(followQueue).observe(pending, { attributeFilter: ["class"] });

watchValue(readValue);
watch("texts", drawWords);
clearFigures();
readValue();
drawWords();
