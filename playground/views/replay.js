// Plays the shown trace again, from what the browser has: no server, no model.

const PACE = 0.06; // seconds per new token of a recorded example, which has no times of its own
const CALM_PACE = 250; // milliseconds between two changes, for readers who asked for little motion

let replayed = null; // {events, times, next, started, shown, frame} while a replay runs

function startReplay() {
  const events = [run, ...tokens.map(({ step }) => step), outcome];
  const times = timesOf(events);
  closeToken();
  clear();
  replayed = { events, times, next: 0, started: performance.now(), shown: -Infinity, frame: 0 };
  playOn();
  drawWords();
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

function playOn() {
  const now = performance.now();
  replayed.frame = requestAnimationFrame(playOn);
  if (calm() && now - replayed.shown < CALM_PACE) return;
  replayed.shown = now;
  playUntil((now - replayed.started) / 1000);
}

// Takes all events that were there so many seconds after the start.
function playUntil(seconds) {
  const { events, times, next } = replayed;
  while (replayed.next < events.length && times[replayed.next] <= seconds) replayed.next++;
  takeAll(events.slice(next, replayed.next));
  if (replayed.next < events.length) return;
  endReplay();
  drawWords();
}

function endReplay() {
  if (replayed) cancelAnimationFrame(replayed.frame);
  replayed = null;
}

// Shows at once what a replay has not yet shown.
function skipReplay() {
  if (replayed) playUntil(Infinity);
}

part("replay").addEventListener("click", () => {
  if (replayed) skipReplay();
  else if (ended && tokens.length) startReplay();
});
