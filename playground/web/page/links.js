// Shared links: from the query parameters of an address to a request that is not checked yet, as in
// playground/generate/links.py.

import { Refusal } from "../engine/errors.js";

const HASH = /^[0-9a-f]{12}$/;
const SIDES = ["a", "b"];
const WHOLE = /^[0-9]{1,16}$/;
const NUMBER = /^(?:-?[0-9]{0,16}\.[0-9]{1,20}|-[0-9]{1,16}|-?[0-9](?:\.[0-9]{1,20})?e-[0-9]{1,2})$/;

/** Whether an address asks for a generation; one that only names a language or a tab does not. */
export const isLink = (query) => (query.has("prompt") || query.has("forced")) && !isComparison(query);

/** Whether an address asks for a comparison. */
export const isComparison = (query) => SIDES.some((side) => query.has(`${side}_model`));

/** The requests of a comparison's address, by side. Throws a Refusal. */
export function readComparison(query, known, models) {
  return Object.fromEntries(SIDES.map((side) => [side, readLink(ownQuery(query, side), known, models)]));
}

// The parameters of one side, as those of a link to one generation.
function ownQuery(query, side) {
  const own = new URLSearchParams(query);
  for (const [name, text] of query) if (name.startsWith(`${side}_`)) own.set(name.slice(side.length + 1), text);
  return own;
}

/**
 * The request of an address: {model, prompt, sampling, forced, tampering, release}. Throws a Refusal.
 *
 * @param {URLSearchParams} query
 * @param {{settings: string[], tampering: string[]}} known The names of the parameters.
 * @param {string[]} models The names of the page's models.
 */
export function readLink(query, known, models) {
  const sampling = {};
  for (const name of known.settings) if (query.has(name)) sampling[name] = readNumber(query.get(name));
  const ids = query.get("forced") ? query.get("forced").split(".") : [];
  if (!ids.every((id) => WHOLE.test(id))) throw new Refusal("link_forced");
  const model = query.get("model") ?? models[0];
  if (!models.includes(model)) throw new Refusal("no_model", { known: models.join(", ") });
  const tampering = Object.fromEntries(known.tampering.filter((name) => query.has(name)).map((name) => [name, query.get(name)]));
  const release = HASH.test(query.get("release") ?? "") ? query.get("release") : "";
  return { model, prompt: query.get("prompt") ?? "", sampling, forced: ids.map(Number), tampering, release };
}

// The number that the text says, or the text itself, which the check then refuses by name.
const readNumber = (text) => (WHOLE.test(text) || NUMBER.test(text) ? Number(text) : text);
