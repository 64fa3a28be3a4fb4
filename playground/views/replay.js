// Replays the shown trace from its events, without a new generation.

import { prefersCalm } from "./toolkit.js";

const PACE = 0.06; // seconds per new token of a recorded example, which has no timestamps
const CALM_PACE = 250; // milliseconds between two changes, for readers who asked for little motion

export function createReplay(trace) {
  let replayed = null; // {events, times, next, started, shown, frame} while a replay runs

  function start() {
    const events = [trace.run, ...trace.tokens.map(({ step }) => step), trace.outcome];
    trace.clear();
    replayed = { events, times: timesOf(events), next: 0, started: performance.now(), shown: -Infinity, frame: 0 };
    playOn();
    trace.drawTexts();
  }

  function playOn() {
    const now = performance.now();
    replayed.frame = requestAnimationFrame(playOn);
    if (prefersCalm() && now - replayed.shown < CALM_PACE) return;
    replayed.shown = now;
    playUntil((now - replayed.started) / 1000);
  }

  // Draws all events up to this many seconds after the start.
  function playUntil(seconds) {
    const { events, times, next } = replayed;
    while (replayed.next < events.length && times[replayed.next] <= seconds) replayed.next++;
    trace.takeAll(events.slice(next, replayed.next));
    if (replayed.next < events.length) return;
    end();
    trace.drawTexts();
  }

  function end() {
    if (replayed) cancelAnimationFrame(replayed.frame);
    replayed = null;
  }

  /** Draws the rest of a running replay immediately. */
  function skip() {
    if (replayed) playUntil(Infinity);
  }

  trace.toolkit.part("replay").addEventListener("click", () => {
    if (replayed) skip();
    else if (trace.ended && trace.tokens.length) start();
  });

  return { skip, end, isRunning: () => replayed !== null };
}

// Seconds after the start, for each event.
function timesOf(events) {
  const first = events.findIndex((event) => event.prompt === false);
  let last = 0;
  return events.map(({ kind, prompt, s }, index) => {
    if (kind === "step") last = s ?? (prompt ? 0 : PACE * (index - first + 1));
    return last;
  });
}
