// The view of a conversation. The value is the NDJSON of one answer (see answer_events in playground/generate/chat.py), or
// describes the chosen model. The view keeps the turns and sends all of them with every question. Besides `texts` and
// `language` it reads two props: `most`, the maximum length of a question in characters, and `mostMessages`, the maximum
// number of messages in a conversation.

import { createJoiner } from "./characters.js";
import { createForm, describeAnswer, PLACED, together } from "./form.js";
import { loopLabel, makeColumn, makeExpert, makeRowLabels, PALETTE } from "./routing.js";
import { createToolkit, FAR, indexAt, isAtEnd, make, readLines } from "./toolkit.js";

const REMEMBERED = "axion-chat"; // where the browser keeps the conversation while its tab is open
const MOST_REMEMBERED = 12; // turns

const TALLEST = 180; // maximum height of the input field in pixels

export function start(host) {
  const { props, watch } = host;
  const toolkit = createToolkit(host);
  const { part, fill, describeSampling, translate, visible, watchValue, percent, percents, count } = toolkit;
  const view = part("view");
  let seen = ""; // the part of the value that was read
  let turns = []; // see addTurn
  let described = { chat: false, context: 0, starters: {} }; // the event that describes the model
  let following = true; // the newest line stays in sight, unless the reader scrolled away
  let current = null; // the turn that the value is about
  let recalling = false; // whether turns are drawn that were remembered

  const isBusy = () => view.dataset.state !== "idle";
  const newest = () => turns[turns.length - 1];

  // ---------------------------------------------------------------------------------------------------- reading events

  function readValue() {
    const text = props.value || "";
    if (!text.startsWith(seen) || !text) seen = "";
    const { events, end } = readLines(text, seen.length);
    if (!events.length) return;
    if (seen === "") open(events[0]);
    seen = text.slice(0, end);
    for (const event of events) take(event);
    drawRouting(newest());
    follow();
  }

  // The first event says whether the value is about the chosen model or about the turn that waits for it.
  function open(event) {
    current = event.kind === "turn" && newest()?.number === event.turn ? newest() : null;
    if (current?.failure) Object.assign(current, { failure: null, ended: false }); // its answer was late, not refused
    if (event.kind === "turn") return;
    part("error").hidden = event.kind !== "error";
    part("error").textContent = event.kind === "error" ? event.message : "";
    if (event.kind === "model") described = event;
    view.dataset.model = event.model || "";
    part("notice").hidden = event.kind !== "model";
    drawTexts();
  }

  function take(event) {
    if (!current || current.ended) return; // including late data of an answer that was stopped
    if (event.kind === "turn") Object.assign(current, { heard: true, leftOut: event.left_out });
    else if (event.kind === "start") begin(event);
    else if (event.kind === "step") addToken(event);
    else if (event.kind === "end") finish(current, event);
    else if (event.kind === "error") fail(current, event.message);
  }

  function begin(start) {
    const { run, nodes } = Object.assign(current, { run: start, joiner: createJoiner(start) });
    view.dataset.state = "running";
    nodes.text.textContent = "";
    current.form = createForm(nodes.text, fill);
    current.form.begin(run.prompt, run.prompt);
    nodes.prompt.textContent = run.prompt;
    nodes.given.hidden = false;
    nodes.root.classList.toggle("av-many", run.experts > PALETTE);
    nodes.rows.append(...makeRowLabels(run));
    nodes.ribbon.hidden = !run.layers;
    drawTurn(current);
  }

  function addToken(step) {
    const { run, tokens, nodes, joiner } = current;
    const span = make("span", "", step.t);
    span.style.setProperty("--p", step.p ?? 1);
    const column = makeColumn("av-col", step, run.experts);
    span.dataset.index = column.dataset.index = tokens.length;
    tokens.push({ step, span, column });
    current.form.add(span, step.t);
    joiner.add(tokens.at(-1), PLACED);
    nodes.columns.append(column);
    nodes.columns.scrollLeft = nodes.columns.scrollWidth;
  }

  function finish(turn, end) {
    turn.ended = true;
    turn.outcome = end;
    turn.form?.close();
    if (end.check?.line) turn.form.markLine(end.check.line);
    rest();
    drawTurn(turn);
    if (!recalling) announce(fill("announce_end", { text: spoken(turn) || turn.nodes.text.textContent }));
  }

  function fail(turn, message) {
    turn.ended = true;
    turn.failure = message;
    rest();
    drawTurn(turn);
  }

  function rest() {
    view.dataset.state = "idle";
    drawTools();
    remember();
  }

  // ------------------------------------------------------------------------------------------------------------- asking

  const answerOf = (turn) => turn.tokens.map(({ step }) => step.t).join("");

  // What is read out: the answer alone, without what the model thought before it.
  function spoken(turn) {
    const answered = turn.form?.answer() ?? [];
    return answered.length ? answered.map(({ textContent }) => textContent).join("") : answerOf(turn);
  }

  function ask(question) {
    if (isBusy() || !question.trim()) return;
    addTurn(question, 0);
  }

  function addTurn(question, attempt) {
    const past = readable(turns).flatMap((turn) => [
      { role: "user", content: turn.question },
      { role: "assistant", content: answerOf(turn) },
    ]);
    const turn = openTurn(question, attempt);
    view.dataset.state = "waiting";
    following = true;
    drawTurn(turn);
    drawTools();
    follow();
    announce(fill("announce_start"));
    host.trigger("submit", { turn: turn.number, attempt, messages: [...past, { role: "user", content: question }] });
  }

  function openTurn(question, attempt) {
    const turn = {
      number: Math.floor(Math.random() * 2 ** 52), // identifies its events
      question,
      attempt,
      tokens: [], // {step, span, column}
      run: null, // the start event
      outcome: null, // the end event
      failure: null,
      heard: false, // whether the question was accepted
      ended: false,
      leftOut: 0,
      nodes: buildTurn(question),
    };
    turns.push(turn);
    part("turns").append(turn.nodes.root);
    return turn;
  }

  // A reload keeps the conversation.
  function remember() {
    if (recalling) return;
    const kept = turns.filter(({ ended, run, failure }) => ended && run && !failure).slice(-MOST_REMEMBERED);
    const records = kept.map(({ question, attempt, leftOut, run, tokens, outcome }) => {
      const steps = tokens.map(({ step }) => step);
      return { question, attempt, events: [{ kind: "turn", left_out: leftOut }, run, ...steps, { kind: "end", ...outcome }] };
    });
    try {
      sessionStorage.setItem(REMEMBERED, JSON.stringify(records));
    } catch {
      // storage is blocked or full: the conversation lasts as long as the page
    }
  }

  function recall() {
    let records = [];
    try {
      records = JSON.parse(sessionStorage.getItem(REMEMBERED)) ?? [];
    } catch {
      // storage is blocked
    }
    recalling = true;
    for (const { question, attempt, events } of records) {
      current = openTurn(question, attempt);
      for (const event of events) take(event);
    }
    current = null;
    recalling = false;
  }

  // The turns that are sent with a question. A model without chat training reads none of them.
  function readable(past) {
    if (!described.chat) return [];
    const answered = past.filter((turn) => turn.ended && !turn.failure && answerOf(turn));
    return answered.slice(-Math.floor((props.mostMessages - 1) / 2));
  }

  function retry() {
    if (isBusy() || !turns.length) return;
    const { question, attempt, nodes } = turns.pop();
    nodes.root.remove();
    addTurn(question, attempt + 1);
  }

  function clear() {
    if (isBusy()) halt();
    turns = [];
    remember();
    part("turns").replaceChildren();
    drawTools();
    part("input").focus();
  }

  const halt = () => host.trigger("stop", {});

  // A stopped answer sends no end event, and a refused question sends no event at all.
  function followHost() {
    const turn = newest();
    if (!turn || turn.ended) return;
    if (host.busy === "stopped") finish(turn, { reason: "stopped" });
    else if ((host.busy === "refused" || host.busy === "idle") && !turn.heard) fail(turn, fill("refused"));
  }

  // ------------------------------------------------------------------------------------------------------------ one turn

  function buildTurn(question) {
    const root = make("li", "ac-turn");
    const nodes = { root };
    const add = (parent, name, tag, className, text) => {
      nodes[name] = make(tag, className, text);
      parent.append(nodes[name]);
      return nodes[name];
    };
    add(root, "question", "p", "ac-question", question);
    const answer = add(root, "answer", "div", "ac-answer");
    add(answer, "leftOut", "p", "ac-note");
    add(answer, "text", "div", "ac-text");
    add(answer, "verdict", "p", "av-answer").hidden = true;
    const ribbon = add(answer, "ribbon", "div", "ac-ribbon");
    add(ribbon, "rows", "div", "ac-rows").setAttribute("aria-hidden", "true");
    add(ribbon, "columns", "div", "ac-columns").tabIndex = 0;
    nodes.columns.setAttribute("role", "group");
    const foot = add(answer, "foot", "div", "ac-foot");
    add(foot, "routing", "p", "ac-routing");
    add(foot, "meta", "p", "ac-meta");
    add(answer, "given", "details", "ac-given").hidden = true;
    add(nodes.given, "summary", "summary", "");
    add(nodes.given, "prompt", "pre", "");
    nodes.ribbon.hidden = true;
    listen(nodes);
    return nodes;
  }

  // Updates the texts of a turn, but not its tokens.
  function drawTurn(turn) {
    const { nodes, run, outcome, failure, leftOut } = turn;
    nodes.root.setAttribute("aria-label", fill("you"));
    nodes.leftOut.hidden = !leftOut;
    nodes.leftOut.textContent = fill(leftOut === 1 ? "left_out_one" : "left_out_many", { count: count(leftOut) });
    const silent = turn.ended && !failure && !answerOf(turn);
    if (failure) nodes.text.textContent = failure;
    else if (silent) nodes.text.textContent = outcome?.reason === "stopped" ? fill("stopped") : fill("nothing");
    else if (!run) nodes.text.textContent = fill("waiting");
    nodes.text.classList.toggle("ac-quiet", silent || !run);
    nodes.text.classList.toggle("ac-failed", Boolean(failure));
    nodes.columns.setAttribute("aria-label", fill("ribbon"));
    nodes.summary.textContent = fill("given");
    drawVerdict(turn);
    nodes.meta.textContent = run ? describeRun(run, outcome) : "";
    drawRouting(turn);
  }

  // Right or wrong where that is known, and how sure the model was of its answer.
  function drawVerdict({ form, tokens, outcome, ended, nodes }) {
    form?.drawTexts();
    const answered = ended && form ? form.answer().map(({ dataset }) => tokens[dataset.index].step) : [];
    const { text, mark } = describeAnswer(outcome?.check, together(answered), toolkit);
    nodes.verdict.hidden = !text;
    nodes.verdict.className = `av-answer ${mark}`;
    nodes.verdict.textContent = text;
  }

  function describeRun({ model, sampling }, outcome) {
    return [model, describeSampling(sampling), outcome ? fill(outcome.reason, outcome) : ""].filter(Boolean).join(" · ");
  }

  // The experts of one token, by layer.
  function drawRouting(turn, index = -1) {
    if (!turn?.run) return;
    const { run, tokens, nodes } = turn;
    if (!run.layers) {
      nodes.routing.replaceChildren(make("span", "", fill("no_experts")));
      return;
    }
    if (!tokens.length) return;
    const shown = tokens[index] ? describeToken(run, tokens[index].step) : [make("span", "ac-caption", fill("point"))];
    nodes.routing.replaceChildren(...shown);
  }

  function describeToken(run, step) {
    const parts = [make("q", "", visible(step.t))];
    if (step.p !== null) parts.push(make("span", "", fill("probability", { p: percent(step.p) })));
    step.e.forEach((experts, row) => {
      if (loopLabel(run, row)) parts.push(make("span", "ac-layer", loopLabel(run, row)));
      const weights = percents(step.g[row]);
      parts.push(...experts.map((expert, rank) => chip(run, row, expert, weights[rank])));
    });
    return parts;
  }

  function chip(run, row, expert, weight) {
    const node = make("span", "ac-chip");
    node.append(makeExpert("b", "", run, row, expert), ` ${weight}`);
    return node;
  }

  function listen(nodes) {
    const turnOf = () => turns.find((turn) => turn.nodes === nodes);
    let shown = -1;
    const show = (index) => {
      const turn = turnOf();
      if (!turn?.tokens.length) return;
      for (const [at, on] of [[shown, false], [index, true]]) {
        for (const node of [turn.tokens[at]?.span, turn.tokens[at]?.column]) node?.classList.toggle("on", on);
      }
      shown = index;
      drawRouting(turn, index);
      nodes.columns.setAttribute("aria-label", index < 0 ? fill("ribbon") : nodes.routing.textContent);
    };
    for (const box of [nodes.text, nodes.columns]) {
      box.addEventListener("pointerover", (event) => {
        if (indexAt(event) >= 0) show(indexAt(event));
      });
      box.addEventListener("pointerleave", () => show(-1));
    }
    nodes.columns.addEventListener("blur", () => show(-1));
    nodes.columns.addEventListener("keydown", (event) => {
      const last = turnOf().tokens.length - 1;
      const steps = { ArrowLeft: Math.max(0, shown - 1), ArrowRight: Math.min(last, shown + 1), Home: 0, End: last, Escape: -1 };
      if (!(event.key in steps)) return;
      show(steps[event.key]);
      event.preventDefault();
    });
  }

  // ---------------------------------------------------------------------------------------------------- texts and fields

  function drawTexts() {
    translate();
    const ability = described.chat ? "can_chat" : "cannot_chat";
    part("notice-title").textContent = fill(ability);
    const note = continuesText() ? "text_note" : `${ability}_note`;
    part("notice-note").textContent = fill(note, { context: count(described.context) });
    part("input").placeholder = starters()[0]?.replace(/\s+/g, " ") ?? fill("likely_1");
    part("clear").title = fill("clear_hint");
    drawStarters();
    drawTools();
    turns.forEach(drawTurn);
  }

  // A model of text, without chat training: what is sent is an opening that it continues.
  function continuesText() {
    return !described.chat && starters().length > 0;
  }

  const starters = () => described.starters[props.language] ?? [];

  function drawStarters() {
    if (starters().length > 0) {
      const group = make("div", "");
      const caption = fill(continuesText() ? "starters_text" : "starters");
      group.append(make("p", "ax-caption", caption), ...starters().map(starter));
      part("starters").replaceChildren(group);
      return;
    }
    part("starters").replaceChildren(
      ...["likely", "unlikely"].map((kind) => {
        const group = make("div", "");
        const keys = Object.keys(props.texts).filter((key) => key.startsWith(`${kind}_`));
        group.append(make("p", "ax-caption", fill(`starters_${kind}`)), ...keys.map((key) => starter(fill(key))));
        return group;
      }),
    );
  }

  function starter(question) {
    const button = make("button", "", question);
    button.type = "button";
    button.addEventListener("click", () => ask(question));
    return button;
  }

  function drawTools() {
    part("send").hidden = isBusy();
    part("stop").hidden = !isBusy();
    part("starters").hidden = turns.length > 0;
    part("retry").disabled = isBusy() || !turns.length;
    part("clear").disabled = !turns.length;
    part("retry").title = fill(newest()?.run?.sampling.temperature === 0 ? "retry_same" : "retry_hint");
  }

  function send() {
    const input = part("input");
    if (isBusy() || !input.value.trim()) return;
    const question = input.value;
    input.value = "";
    fitInput();
    ask(question);
  }

  function fitInput() {
    const input = part("input");
    input.style.height = "auto";
    input.style.height = `${Math.min(input.scrollHeight + 2, TALLEST)}px`;
  }

  function announce(text) {
    part("live").textContent = text;
  }

  function follow() {
    if (following) part("log").scrollTop = FAR;
  }

  // ---------------------------------------------------------------------------------------------------------------- start

  part("input").maxLength = props.most;
  part("input").addEventListener("input", fitInput);
  part("input").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  part("send").addEventListener("click", send);
  part("stop").addEventListener("click", () => {
    halt();
    part("input").focus();
  });
  part("retry").addEventListener("click", retry);
  part("clear").addEventListener("click", clear);
  part("log").addEventListener("scroll", ({ target }) => {
    following = isAtEnd(target, "y");
  });
  watch("busy", followHost);
  watchValue(readValue);
  watch("texts", drawTexts);
  recall();
  readValue();
  drawTexts();
}
