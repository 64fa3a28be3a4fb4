// What a view is told of one token, as playground/generate/inspection.py tells it.

import { layerPasses, loopsOf } from "./shape.js";

const NAMED = 20; // tokens of a distribution that are listed one by one
const GROUP_WIDTH = 0.1; // the others are in groups of nearly equal logits

/** Takes {ids, at, num_loops, tampering}; throws as `release.inspect`. */
export function inspectToken(release, { ids, at, num_loops: loops = 0, tampering }) {
  const found = release.inspect({ ids, position: at, num_loops: loops, tampering: tampering ?? {} });
  const text = ids.slice(0, at + 1);
  return {
    passes: layerPasses(release.shape, loopsOf(release.shape, loops)),
    attention: found.attention,
    scores: found.affinities,
    before: found.before && describe(release, found.before, text.slice(0, -1)),
    after: describe(release, found.after, text),
  };
}

function describe(release, logits, text) {
  const seen = new Set(text);
  const order = Array.from(logits.keys()).sort((one, other) => logits[other] - logits[one] || one - other);
  const top = order.slice(0, NAMED).map((id) => [id, release.decode([id]), logits[id], Number(seen.has(id))]);
  return { top, rest: group(logits, order.slice(NAMED), seen) };
}

// [the logit of their mean probability, how many there are, whether the text has them]
function group(logits, tokens, seen) {
  const groups = new Map();
  for (const id of tokens) {
    const key = 2 * Math.floor(logits[id] / GROUP_WIDTH) + Number(seen.has(id));
    groups.set(key, [...(groups.get(key) ?? []), id]);
  }
  return Array.from(groups.values(), (members) => {
    const most = logits[members[0]];
    const sum = members.reduce((total, id) => total + Math.exp(logits[id] - most), 0);
    return [most + Math.log(sum / members.length), members.length, Number(seen.has(members[0]))];
  });
}
