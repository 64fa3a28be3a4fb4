// Draws the events of a trace at a pace that a reader can follow: while they arrive, or again from the first one.

import { make, prefersCalm } from "./toolkit.js";

const PACES = [3, 10, 30]; // new tokens per second
const OWN = "own"; // the model's own speed
const KEPT = "axion-pace"; // where the browser keeps the choice
const RECORDED_SECONDS = 0.06; // between two new tokens of a recorded example, which has no timestamps
const CALM_MS = 250; // between two changes, for readers who asked for little motion

export function createPlayer(trace) {
  const { part, fill } = trace.toolkit;
  let queue = []; // events that are not drawn yet, with the second at which each came
  let paced = false; // whether new tokens wait for their turn
  let replaying = false;
  let paused = false;
  let pace = keptPace();
  let due = 0; // when the next new token may be drawn
  let started = 0; // when the replay began
  let shown = -Infinity; // when something was drawn last
  let frame = 0;

  /** Draws these events, at once or when their turn comes. */
  function add(events) {
    if (events[0].kind === "start") {
      paced = !events[0].recorded;
      paused = false;
      due = 0;
    }
    queue.push(...events.map((event) => ({ event, at: 0 })));
    draw(performance.now());
  }

  function replay() {
    const events = [trace.run, ...trace.tokens.map(({ step }) => step), trace.outcome];
    const times = timesOf(events);
    trace.clear();
    queue = events.map((event, index) => ({ event, at: 1000 * times[index] }));
    paced = replaying = true;
    paused = false;
    due = 0;
    started = performance.now();
    draw(started);
    trace.drawTexts();
  }

  function draw(now) {
    cancelAnimationFrame(frame);
    if (!prefersCalm() || !paced || now - shown >= CALM_MS) {
      const count = countDue(now);
      if (count) take(count, now);
    }
    if (queue.length && !paused) frame = requestAnimationFrame(draw);
    drawControls();
  }

  // How many events at the head of the queue have their turn. Only new tokens have to wait for it.
  function countDue(now) {
    const waiting = queue.findIndex(({ event, at }) => {
      if (!paced || event.kind !== "step" || event.prompt) return false;
      if (paused) return true;
      if (pace === OWN) return replaying && now - started < at;
      if (now < due) return true;
      due = Math.max(due + 1000 / pace, now);
      return false;
    });
    return waiting < 0 ? queue.length : waiting;
  }

  function take(count, now) {
    const taken = queue.splice(0, count);
    shown = now;
    trace.takeAll(taken.map(({ event }) => event));
    if (queue.length || !replaying) return;
    replaying = false;
    trace.drawTexts();
  }

  /** Draws all that waits. */
  function skip() {
    paused = false;
    if (queue.length) take(queue.length, performance.now());
    drawControls();
  }

  /** Forgets what waits; what still comes of it has no turn to wait for. */
  function clear() {
    cancelAnimationFrame(frame);
    queue = [];
    paced = replaying = paused = false;
    drawControls();
  }

  // ----------------------------------------------------------------------------------------------------------- controls

  function pause() {
    paused = !paused;
    // a replay at the model's own speed goes on with the token at which it paused
    if (!paused && replaying && queue.length) started = performance.now() - queue[0].at;
    draw(performance.now());
  }

  // The next new token, and the end if it was the last one; then the trace pauses.
  function step() {
    paused = true;
    const next = queue.findIndex(({ event }) => event.kind === "step");
    if (next >= 0) take(next + 1, performance.now());
    draw(performance.now());
  }

  function choosePace(value) {
    pace = value === OWN ? OWN : Number(value);
    if (replaying && queue.length) started = performance.now() - queue[0].at;
    try {
      localStorage.setItem(KEPT, pace);
    } catch {
      // storage is blocked: the choice lasts as long as the page
    }
    draw(performance.now());
  }

  function drawControls() {
    const waits = queue.some(({ event }) => event.kind === "step");
    part("pause").disabled = part("step").disabled = !waits;
    part("pause").textContent = fill(paused ? "continue" : "pause");
    const rerun = !waits && !replaying;
    part("replay").disabled = rerun && (!trace.ended || !trace.tokens.length || !trace.outcome);
    part("replay").textContent = fill(rerun ? "replay" : "show_all");
  }

  function drawTexts() {
    const choices = [...PACES, OWN].map((each) => {
      const option = make("option", "", each === OWN ? fill("pace_own") : fill("pace", { pace: each }));
      option.value = each;
      return option;
    });
    part("pace").replaceChildren(...choices);
    part("pace").value = pace;
    drawControls();
  }

  part("pause").addEventListener("click", pause);
  part("step").addEventListener("click", step);
  part("pace").addEventListener("change", ({ target }) => choosePace(target.value));
  part("replay").addEventListener("click", () => {
    if (queue.length) skip();
    else if (trace.ended && trace.tokens.length) replay();
  });

  return { add, skip, clear, drawTexts, drawControls, isReplaying: () => replaying };
}

function keptPace() {
  try {
    const kept = localStorage.getItem(KEPT);
    if (kept === OWN) return OWN;
    if (PACES.includes(Number(kept))) return Number(kept);
  } catch {
    // storage is blocked
  }
  return PACES[1];
}

// Seconds after the start, for each event.
function timesOf(events) {
  const first = events.findIndex((event) => event.prompt === false);
  let last = 0;
  return events.map(({ kind, prompt, s }, index) => {
    if (kind === "step") last = s ?? (prompt ? 0 : RECORDED_SECONDS * (index - first + 1));
    return last;
  });
}
