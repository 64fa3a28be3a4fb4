// Characters that several tokens write together: a token may be one byte of a letter. The token that completes the character
// carries its text; the ones before it have none. In a text all of them share the character's place, each with a part of it
// that can be pointed at, so that the text reads as it should.

import { make } from "./toolkit.js";

/**
 * Joins the tokens of a text, which come one by one.
 *
 * @param {object} run The start event. Its `special` lists the ids of tokens that never have a text.
 */
export function createJoiner(run) {
  const special = new Set(run.special ?? []);
  const knows = run.special !== undefined;
  let open = []; // the tokens of a character that is not complete

  /**
   * Takes the next token, whose `span` is the last one in `box`. Returns the tokens of the character that it completes, or
   * none: each with the part that it writes of the text of all in `piece`, {text, at, of}.
   */
  function add(token, box) {
    const { step, span } = token;
    if (step.t === "") {
      if (open.length || (knows && !special.has(step.id))) open.push(token);
      box.append(span);
      return [];
    }
    if (!open.length) {
      box.append(span);
      return [];
    }
    const tokens = [...open, token];
    open = [];
    if (step.t.startsWith("\ufffd")) {
      box.append(span); // the bytes were no character
      return [];
    }
    const place = make("span", "av-char");
    tokens[0].span.replaceWith(place);
    tokens.forEach((each, index) => {
      each.piece = { text: step.t, at: index + 1, of: tokens.length };
      if (each === token) return;
      each.span.classList.add("av-byte");
      each.span.style.setProperty("--at", index / tokens.length);
      each.span.style.setProperty("--wide", 1 / tokens.length);
    });
    place.append(...tokens.map((each) => each.span));
    return tokens;
  }

  return { add };
}
