// The view of a trace: its text, the ribbon of layers × tokens, the experts' load, and the figures. The value is NDJSON
// that only grows (see playground/generate/events.py); what was added is read and drawn in the next animation frame.
// Besides `texts` and `language` the view reads four props: `defaults`, the sampling settings that a link may leave out,
// `model`, the name of the model that is chosen on the page, `settings`, the sampling settings of its controls, if any, and
// `tampered`, the events of a changed model (see tamper.js).

import { createAttention } from "./attention.js";
import { createBranches } from "./branches.js";
import { createJoiner } from "./characters.js";
import { createCloseup } from "./closeup.js";
import { markEnds } from "./ends.js";
import { createForm, describeAnswer, PLACED, together } from "./form.js";
import { createFigures } from "./figures.js";
import { createOverview } from "./overview.js";
import { createPlayer } from "./player.js";
import { createPopover } from "./popover.js";
import { makeColumn, makeToken, PALETTE } from "./routing.js";
import { createSampling } from "./sampling.js";
import { createShare, exportTrace, requestToLink } from "./share.js";
import { createTamper } from "./tamper.js";
import { createTerms } from "./terms.js";
import { createToolkit, FAR, prefersCalm, readLines } from "./toolkit.js";
import { createTour } from "./tour.js";
import { createWalk } from "./walk.js";

export function start(host) {
  const { props, watch } = host;
  const toolkit = createToolkit(host);
  const { part, fill } = toolkit;
  const terms = createTerms(host);
  const view = part("view");

  // What the files of this view share. They call each other through it.
  const trace = {
    host,
    toolkit,
    terms,
    view,
    run: null, // the start event
    tokens: [], // {step, span, column, piece}, one per token; see characters.js for `piece`
    outcome: null, // the end event
    ended: true,
    layer: 0, // the row of the layer that colours the text
    branchIndex: -1, // the token that a branch took
    ribbon: part("ribbon"),
    ask,
    halt,
    recall,
    announce,
    clear,
    takeAll,
    drawTexts,
    drawChosen,
    chosen: () => trace.walk.chosen(),
    subject,
  };
  const form = (trace.form = createForm(part("text"), fill));
  const figures = (trace.figures = createFigures(trace));
  const popover = (trace.popover = createPopover(trace));
  const walk = (trace.walk = createWalk(trace));
  const branches = (trace.branches = createBranches(trace));
  const tamper = (trace.tamper = createTamper(trace));
  const closeup = (trace.closeup = createCloseup(trace));
  const attention = (trace.attention = createAttention(trace));
  trace.sampling = createSampling(trace);
  const tour = (trace.tour = createTour(trace));
  const overview = createOverview(trace);
  const share = createShare({
    name: "axion-trace",
    toolkit,
    announce,
    query: () => ({ ...requestToLink(trace.run, props.defaults, props.language), ...tamper.toTexts() }),
    data: () => ({ ...exportTrace(trace.run, trace.tokens, trace.outcome), ...tamper.exportResult() }),
    table: () => tamper.tabulate(trace.run, trace.tokens),
  });
  const player = createPlayer(trace);

  let seen = ""; // the part of the value that was read
  let failure = null; // the error event
  let asked = null; // {forced, branch, release}: what this view asked for last
  let release = null; // the hash of the release that a link was made with
  let recalling = false; // whether a generation is drawn that was kept
  let joiner = null; // joins the tokens of a character
  let refused = false; // whether the last request came back without an answer
  let before = null; // the state to return to when a request is stopped or refused
  let wasDue = true; // what exampleDue was before the last request
  let exampleDue = true; // no generation was requested since the model was chosen
  let drawn = -1; // the token that was shown in full last

  const state = () => view.dataset.state;

  // ---------------------------------------------------------------------------------------------------- reading events

  function readValue() {
    const text = props.value || "";
    if (!seen || !text.startsWith(seen)) {
      // Too late: a generation was requested after the model was chosen, or this one was stopped while it waited.
      if (isExample(text) ? !exampleDue : host.busy === "stopped" || host.busy === "refused") return;
      reset();
    }
    const { events, end } = readLines(text, seen.length);
    if (!events.length) return;
    if (player.isReplaying()) player.skip();
    seen = text.slice(0, end);
    tamper.receive(events);
    player.add(events);
  }

  // Whether this is what a model shows by default: its recorded example, nothing, or why it cannot be opened.
  function isExample(text) {
    const { recorded, of } = text ? JSON.parse(text.slice(0, text.indexOf("\n"))) : { recorded: true };
    return recorded || of === "example";
  }

  function takeAll(events) {
    const batch = { columns: new DocumentFragment() };
    for (const event of events) take(event, batch);
    append(batch);
    figures.draw();
    if (subject() !== drawn) drawChosen();
    overview.draw();
    followEnd(); // last, so that the browser lays the page out once
  }

  function take(event, batch) {
    if (event.kind === "start") begin(event);
    else if (event.kind === "open") open(event);
    else if (event.kind === "error") fail(event);
    else if (trace.ended) return; // late data of a generation that was stopped
    else if (event.kind === "step") addToken(event, batch);
    else if (event.kind === "end") {
      append(batch);
      finish(event);
    }
  }

  function reset() {
    branches.keep();
    seen = "";
    player.clear();
    tamper.clear();
    clear();
    setState("empty");
  }

  function clear() {
    popover.close();
    trace.run = trace.outcome = failure = null;
    trace.tokens = [];
    trace.branchIndex = -1;
    trace.ended = true;
    refused = false;
    walk.clear();
    closeup.clear();
    attention.clear();
    drawn = -1;
    overview.draw();
    figures.clear();
    share.hideLink();
    for (const name of ["text", "columns", "rows", "layers", "token"]) part(name).replaceChildren();
    markEnds(toolkit, part("text"), null, null, 0);
    part("answer").hidden = true;
    part("text").classList.remove("av-branch");
    drawMessages();
  }

  function begin(run) {
    trace.run = run;
    trace.ended = false;
    trace.layer = Math.min(trace.layer, Math.max(run.layers - 1, 0));
    joiner = createJoiner(run);
    const live = !run.recorded && !player.isReplaying() && !recalling;
    if (!player.isReplaying() && !recalling) {
      const own = asked && same(asked.forced, run.forced) ? asked : {};
      release = own.release ?? null;
      asked = null;
      branches.begin(own.branch);
    }
    view.classList.toggle("av-many", run.experts > PALETTE);
    view.classList.toggle("av-dense", run.layers === 0);
    walk.buildLayers();
    attention.begin();
    attention.showRow(trace.layer);
    form.begin(run.prompt);
    part("raw").hidden = !form.isFormed();
    figures.begin();
    walk.show(-1);
    setState(player.isReplaying() ? "replaying" : run.recorded ? "recorded" : "running");
    drawMessages();
    if (!live) return;
    announce(fill("announce_start"));
    bringIntoSight();
  }

  function addToken(step, batch) {
    const { run, tokens } = trace;
    const index = tokens.length;
    const span = makeToken(step, trace.layer, run.experts);
    const column = makeColumn(step.prompt ? "av-col av-prompt" : "av-col", step, run.experts);
    column.id = `axion-token-${index}`;
    column.setAttribute("role", "option");
    column.setAttribute("aria-label", toolkit.visible(step.t));
    span.dataset.index = column.dataset.index = index;
    const fresh = figures.add(step);
    if (!step.prompt && fresh <= run.forced.length) {
      const mark = fresh < run.forced.length ? "av-kept" : "av-branch";
      for (const node of [span, column]) node.classList.add(mark);
      if (mark === "av-branch") trace.branchIndex = index;
    }
    if (!step.prompt) span.style.setProperty("--p", step.p ?? 1);
    tokens.push({ step, span, column });
    form.add(span, step.t);
    batch.columns.append(column);
    for (const { column: each, piece } of joiner.add(tokens[index], PLACED)) {
      each.classList.toggle("av-opens", piece.at < piece.of);
      each.classList.toggle("av-joined", piece.at > 1);
      each.setAttribute("aria-label", popover.nameOfToken(Number(each.dataset.index)));
    }
  }

  function append(batch) {
    part("columns").append(batch.columns);
  }

  // Keeps the newest token of a live trace in view, unless the reader scrolled away or has a popover open.
  function followEnd() {
    if (!trace.run || popover.index() >= 0 || (trace.run.recorded && !player.isReplaying())) return;
    if (walk.following.text) part("text").scrollTop = FAR;
    if (walk.following.columns) part("columns").scrollLeft = FAR;
  }

  function finish(end) {
    const { run, tokens } = trace;
    trace.ended = true;
    trace.outcome = { kind: "end", ...end };
    form.close();
    if (end.check?.line) form.markLine(end.check.line);
    drawAnswer();
    if (end.reason === "eos" && run.forced.length > figures.fresh()) part("text").classList.add("av-branch");
    figures.draw();
    setState(run.recorded ? "recorded" : "done");
    drawChosen();
    if (run.recorded || player.isReplaying() || recalling) return;
    const verdict = part("verdict").textContent;
    announce(fill("announce_end", { tokens: toolkit.count(tokens.length), verdict }));
  }

  function fail(error) {
    trace.ended = true;
    failure = error;
    setState(trace.tokens.length ? "done" : "error");
    drawMessages();
  }

  // -------------------------------------------------------------------------------------------------- asking and waiting

  function open(link) {
    tamper.set(link.tampering ?? {}, link.model);
    ask(link, {});
  }

  // Only one generation runs at a time.
  function ask({ model, prompt, question, sampling, forced, release: linked }, branch) {
    if (host.busy === "waiting" || host.busy === "running") host.trigger("stop", {});
    asked = { forced, branch, release: linked };
    host.trigger("submit", { model, prompt, sampling, forced, ...(question ? { question } : {}) });
  }

  // Ends what runs, waits or is drawn.
  function halt() {
    if (host.busy === "waiting" || host.busy === "running") host.trigger("stop", {});
    player.skip();
  }

  // Shows a generation that was kept.
  function recall(events) {
    player.clear();
    tamper.clear();
    clear();
    tamper.receive(events);
    recalling = true;
    takeAll(events);
    recalling = false;
    announce(part("status").textContent);
  }

  // Controls outside this view start and stop generations too, so the state is the host's.
  function followHost() {
    if (host.busy === "waiting") wait();
    else if (host.busy === "stopped") stop();
    else if (host.busy !== "running" && state() === "waiting") endWait();
  }

  function wait() {
    player.skip();
    before = state();
    wasDue = exampleDue;
    refused = exampleDue = false;
    setState("waiting");
    drawMessages();
    announce(fill("waiting"));
    bringIntoSight();
  }

  function endWait() {
    refused = host.busy === "refused";
    exampleDue = wasDue;
    setState(before);
    drawMessages();
    if (refused) announce(fill("refused"));
    readValue();
  }

  // A stopped generation sends no end event, and what it wrote ahead of the shown tokens is dropped.
  function stop() {
    if (player.isReplaying()) player.skip();
    else player.clear();
    tamper.receive([{ kind: "end", reason: "stopped" }]);
    if (trace.run && !trace.ended) finish({ reason: "stopped" });
    else if (state() === "waiting") endWait();
  }

  // ----------------------------------------------------------------------------------------------------- the chosen token

  /** The token that is shown in full: the chosen one, or the first new one, or the last of the prompt. */
  function subject() {
    if (walk.chosen() >= 0) return walk.chosen();
    const fresh = trace.tokens.findIndex(({ step }) => !step.prompt);
    return fresh >= 0 ? fresh : trace.tokens.length - 1;
  }

  function drawChosen() {
    drawn = subject();
    attention.draw();
    trace.sampling.draw();
    tour.follow();
  }

  // ---------------------------------------------------------------------------------------------------------------- texts

  function drawTexts() {
    toolkit.translate();
    form.drawTexts();
    drawRaw();
    terms.markAll();
    player.drawTexts();
    branches.draw();
    tamper.drawTexts();
    setState(state());
    drawMessages();
    if (!trace.run) return;
    walk.buildLayers();
    attention.begin();
    drawAnswer();
    figures.draw();
    popover.redraw();
    walk.showAgain();
    drawChosen();
  }

  function setState(name) {
    view.dataset.state = name;
    part("status").textContent = describeState(name);
    player.drawControls();
    markEnds(toolkit, part("text"), trace.run, trace.outcome, figures.fresh());
  }

  function describeState(name) {
    const { run, outcome } = trace;
    if (name === "waiting") return fill("waiting");
    if (!run || name === "error") return "";
    const parts = [fill(name, { model: run.model, draw: toolkit.describeSampling(run.sampling) })];
    if (name === "done" && outcome) parts.push(fill(outcome.reason, outcome));
    if (run.forced.length && (trace.branchIndex >= 0 || trace.ended)) parts.push(describeBranch());
    return parts.join(" · ");
  }

  // A branch may have chosen the end of the text, which has no token.
  function describeBranch() {
    const taken = trace.tokens[trace.branchIndex]?.step;
    const word = taken ? popover.wordOf(taken.id, taken.t) : fill("end_of_text");
    const token = taken ? taken.i + 1 : trace.tokens.length + 1;
    const instead = branches.current()?.instead;
    return fill(instead ? "branch_instead" : "branch", { token, word, instead });
  }

  // Right or wrong where that is known, and how sure the model was of its answer.
  function drawAnswer() {
    const check = trace.outcome?.check;
    const answered = trace.ended ? form.answer().map(({ dataset }) => trace.tokens[dataset.index].step) : [];
    const { text, mark } = describeAnswer(check, together(answered), toolkit);
    part("answer").hidden = !text;
    part("answer").className = `av-answer ${mark}`;
    part("answer").textContent = text;
  }

  // As the model reads the text, or its parts under headings in the reader's language.
  function drawRaw() {
    const raw = part("text").classList.contains("av-as-read");
    part("raw").setAttribute("aria-pressed", raw);
    part("raw").title = fill("as_read_hint");
  }

  part("raw").addEventListener("click", () => {
    part("text").classList.toggle("av-as-read");
    drawRaw();
  });

  function drawMessages() {
    part("error").hidden = !failure;
    part("error").textContent = failure ? (failure.of === "link" ? fill("bad_link", failure) : failure.message) : "";
    const notes = [];
    if (trace.run?.dropped) notes.push(fill("dropped", countsOf(trace.run)));
    if (trace.run && release && trace.run.release && release !== trace.run.release) {
      notes.push(fill("other_release", { model: trace.run.model, linked: release, served: trace.run.release }));
    }
    if (refused) notes.push(fill("refused"));
    part("note").hidden = !notes.length;
    part("note").textContent = notes.join(" ");
  }

  const countsOf = ({ dropped, context }) => ({ dropped: toolkit.count(dropped), context: toolkit.count(context) });

  function announce(text) {
    part("live").textContent = text;
  }

  // On a narrow screen the controls are below the view, and Generate would seem to do nothing without this.
  function bringIntoSight() {
    const { top, bottom } = view.getBoundingClientRect();
    if (top >= 0 || bottom > innerHeight / 2) return;
    view.scrollIntoView({ block: "start", behavior: prefersCalm() ? "auto" : "smooth" });
  }

  // ---------------------------------------------------------------------------------------------------------------- start

  toolkit.watchValue(readValue);
  watch("texts", drawTexts);
  watch("busy", followHost);
  watch("model", () => (exampleDue = wasDue = true));
  figures.clear();
  readValue();
  drawTexts();
}

const same = (one, other) => one.length === other.length && one.every((id, index) => id === other[index]);
