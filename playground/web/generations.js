// What the Worker runs: each generator yields the events of one of the page's views. `releases` has the opened models by
// name; `told` is the visitor's language and its texts of errors. A release's `start` has what the page's builder knows of
// the model besides what the engine says of a generation.

import { Refusal } from "./engine/errors.js";

/** The events of the first tab; see playground/generate/events.py. `failed` says why the model could not be opened. */
export function* traceEvents(releases, { model, request, failed }, told) {
  if (failed) {
    yield { kind: "error", message: failed };
    return;
  }
  const release = releases.get(model);
  for (const event of release.generate(request, { ...told, seconds: Infinity })) {
    yield event.kind === "start" ? { ...release.start, ...event } : event;
  }
}

/** The events of two generations, one of each in turn; see playground/generate/comparison.py. */
export function* comparisonEvents(releases, { sides }, told) {
  const running = new Map(Object.entries(sides).map(([side, asked]) => [side, traceEvents(releases, asked, told)]));
  const spent = { a: 0, b: 0 };
  try {
    while (running.size) {
      for (const [side, events] of running) {
        const began = performance.now();
        const { value: event, done } = events.next();
        spent[side] += performance.now() - began;
        if (done) running.delete(side);
        else yield { side, ...event, ...(event.kind === "step" ? { s: Math.round(10 * spent[side]) / 1e4 } : {}) };
      }
    }
  } finally {
    for (const events of running.values()) events.return();
  }
}

const TURN_KEYS = ["kind", "i", "t", "p", "e", "g", "s"];

/** The events of an answer, without the prompt's steps; see playground/generate/chat.py. */
export function* answerEvents(releases, { turn, model, request, question, failed }, told) {
  let fitted = { prompt: "", leftOut: 0 };
  let problem = failed;
  try {
    if (!failed) fitted = fit(releases.get(model), question, request.sampling.max_new_tokens);
  } catch (error) {
    problem = error instanceof Refusal ? error.tell(told.texts, told.language) : error.message;
  }
  yield { kind: "turn", turn, left_out: fitted.leftOut };
  const asked = { model, request: { ...request, prompt: fitted.prompt }, failed: problem };
  for (const event of traceEvents(releases, asked, told)) {
    if (event.kind !== "step") yield event;
    else if (!event.prompt) yield Object.fromEntries(TURN_KEYS.map((key) => [key, event[key]]));
  }
}

// The prompt of as much of a conversation as fits, as fit_conversation in axion/inference/chat.py; without a form of
// conversations, of the last question alone.
function fit(release, { prompt, messages, form, context }, newTokens) {
  const room = context - Math.min(newTokens, Math.floor(context / 2));
  const count = (text) => release.encode(text).length;
  if (!form) {
    if (count(prompt) >= context) throw new Refusal("long_question", { context });
    return { prompt, leftOut: 0 };
  }
  const safe = messages.map(({ role, content }) => ({ role, content: breakSpecial(content, form.special) }));
  const turns = safe.flatMap(({ role }, index) => (role === "user" ? [index] : []));
  const since = (turn) => writeConversation(form, safe.slice(turns[turn]));
  const last = turns.length - 1;
  let turn = 0;
  while (turn < last && count(since(turn)) > room) turn++;
  if (turn === last && count(since(last)) >= context) throw new Refusal("long_question", { context });
  return { prompt: since(turn), leftOut: turns[turn] };
}

/** The text of a conversation that ends with a question; `form` is that of conversation_form in content.py. */
export function writeConversation(form, messages) {
  const behind = { user: form.answer, assistant: form.question };
  const parts = messages.map(({ role, content }, at) => content + (at < messages.length - 1 ? behind[role] : form.after));
  return form.before + parts.join("");
}

/** The text with a space after the first character of every special token's name: `<|end|>` → `< |end|>`. */
export function breakSpecial(text, special) {
  if (!special.length) return text;
  const longestFirst = [...special].sort((one, other) => other.length - one.length);
  const names = new RegExp(longestFirst.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|"), "g");
  return text.replace(names, (name) => `${name[0]} ${name.slice(1)}`);
}
