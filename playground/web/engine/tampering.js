// Changes to a model while it reads: `Tampering` of axion/tampering.py, with the same texts and messages.

export const NAMES = ["mute", "force", "top_experts", "bias", "scale", "mute_head"];

const EXAMPLES = {
  mute: "L2.E4",
  force: "L1.E2",
  top_experts: "1",
  bias: "off or L2.E4=0.1",
  scale: "L1.E2=0.5",
  mute_head: "L1.H3",
};
const LIMITS = { bias: [-10, 10], scale: [0, 10] };
const FIRST = 1e4; // added to the score of a forced expert, subtracted from that of a muted one
const LONGEST = 4_000; // characters
const PART = /^[Ll]([1-9][0-9]{0,3})\.([EHeh])([1-9][0-9]{0,3})$/;
const NUMBER = /^[+-]?(?:[0-9]{1,6}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})(?:[eE]-?[0-9]{1,2})?$/;

/** A change that cannot be made; the message says why. */
export class TamperingError extends Error {}

/**
 * Reads what is changed: one of NAMES → a text with commas, a list of texts, or for top_experts a number.
 *
 * Parts are {layer, number}, from 1. Throws TamperingError for names and values that are wrong.
 */
export function readTampering(values) {
  if (values === null || typeof values !== "object" || Array.isArray(values))
    fail(`a change to the model must be an object with ${known()}`);
  const unknown = Object.keys(values).find((name) => !NAMES.includes(name));
  if (unknown !== undefined) fail(`${shown(unknown)} cannot be changed; what can is ${known()}`);
  const words = Object.fromEntries(NAMES.map((name) => [name, readWords(name, values[name])]));
  const biases = words.bias.filter((word) => word.toLowerCase() !== "off");
  return {
    muted: readParts("mute", words.mute, "E"),
    forced: readParts("force", words.force, "E"),
    topExperts: readCount(words.top_experts),
    biasOff: biases.length < words.bias.length,
    biases: readAssignments("bias", biases),
    scales: readAssignments("scale", words.scale),
    mutedHeads: readParts("mute_head", words.mute_head, "H"),
  };
}

function readWords(name, value) {
  if (value === null || value === undefined) return [];
  if (name === "top_experts" && Number.isInteger(value)) return [String(value)];
  const texts = typeof value === "string" ? [value] : value;
  if (!Array.isArray(texts) || !texts.every((text) => typeof text === "string")) {
    fail(
      `${name} must be ${name === "top_experts" ? "a whole number" : "a text"} such as ${EXAMPLES[name]}, not ${shown(value)}`,
    );
  }
  if (texts.reduce((sum, text) => sum + text.length, 0) > LONGEST) fail(`${name} is longer than 4,000 characters`);
  return texts.flatMap((text) => text.split(/[,\s]+/)).filter(Boolean);
}

function readPart(name, word, kind) {
  const found = PART.exec(word);
  if (!found || found[2].toUpperCase() !== kind)
    fail(`${name} needs ${EXAMPLES[name]}, layer and ${kind === "E" ? "expert" : "head"}, not ${shown(word)}`);
  return { layer: Number(found[1]), number: Number(found[3]) };
}

const readParts = (name, words, kind) => sorted(words.map((word) => readPart(name, word, kind)));

function readAssignments(name, words) {
  const [low, high] = LIMITS[name],
    found = [];
  for (const word of words) {
    const at = word.indexOf("=");
    if (at < 0) fail(`${name} needs ${EXAMPLES[name]}, not ${shown(word)}`);
    const part = readPart(name, word.slice(0, at), "E"),
      text = word.slice(at + 1),
      value = NUMBER.test(text) ? Number(text) : NaN;
    if (!(value >= low && value <= high))
      fail(`${name} of ${named(part)} must be a number from ${low} to ${high}, not ${shown(text)}`);
    if (found.some((other) => isSame(other, part) && other.value !== value))
      fail(`${name} of ${named(part)} is given twice`);
    found.push({ ...part, value });
  }
  return sorted(found);
}

function readCount(words) {
  if (!words.length) return null;
  if (words.length > 1 || !/^[0-9]{1,4}$/.test(words[0]))
    fail(`top_experts must be a whole number of at least 1, not ${shown(words.join(" "))}`);
  return Number(words[0]);
}

const isSame = (one, other) => one.layer === other.layer && one.number === other.number;

const sorted = (parts) =>
  parts
    .sort((a, b) => a.layer - b.layer || a.number - b.number)
    .filter((part, at) => at === 0 || !isSame(part, parts[at - 1]));

const named = ({ layer, number }, kind = "E") => `L${layer}.${kind}${number}`;

/** Whether anything is changed. */
export const changes = (t) => changesExperts(t) || t.mutedHeads.length > 0;

const changesExperts = (t) =>
  [t.muted, t.forced, t.biases, t.scales].some((parts) => parts.length) || t.topExperts !== null || t.biasOff;

/** Name → text of what is changed, which `readTampering` reads back. */
export function toTexts(t) {
  const join = (parts, kind) => parts.map((part) => named(part, kind)).join(",");
  const assignments = (parts) => parts.map((part) => `${named(part)}=${Number(part.value.toPrecision(12))}`);
  const texts = {
    mute: join(t.muted, "E"),
    force: join(t.forced, "E"),
    top_experts: t.topExperts === null ? "" : String(t.topExperts),
    bias: [...(t.biasOff ? ["off"] : []), ...assignments(t.biases)].join(","),
    scale: assignments(t.scales).join(","),
    mute_head: join(t.mutedHeads, "H"),
  };
  return Object.fromEntries(Object.entries(texts).filter(([, text]) => text));
}

/** The changes themselves; throws TamperingError where a model of this shape cannot be changed so. */
export function checkTampering(t, shape) {
  if (changesExperts(t)) {
    if (shape.first_k_dense_replace >= shape.num_hidden_layers)
      fail("the model has no experts to change; of a dense model only heads can be muted");
    checkExperts(t, shape);
  }
  for (const { layer, number } of t.mutedHeads) {
    checkLayer(layer, 0, shape, "is not in the model; its layers are");
    const count = shape.num_attention_heads;
    if (number > count) fail(`layer ${layer} has no head H${number}; its heads are H1 to H${count}`);
  }
  return t;
}

function checkExperts(t, shape) {
  const { n_routed_experts: count, n_group: groups, topk_group: open } = shape;
  for (const { layer, number } of sorted([...t.muted, ...t.forced, ...t.biases, ...t.scales])) {
    checkLayer(layer, shape.first_k_dense_replace, shape, "has no experts to change; layers with experts:");
    if (number > count) fail(`layer ${layer} has no expert E${number}; its experts are E1 to E${count}`);
  }
  const chosen = expertsPerToken(t, shape),
    most = (count / groups) * open;
  if (!(chosen >= 1 && chosen <= most))
    fail(`top_experts must be from 1 to ${most}, the experts that a token can choose, not ${chosen}`);
  const both = t.muted.find((part) => t.forced.some((other) => isSame(part, other)));
  if (both) fail(`${named(both)} cannot be muted and forced at the same time`);
  for (const layer of new Set(t.forced.map((part) => part.layer))) {
    const own = t.forced.filter((part) => part.layer === layer);
    if (own.length > chosen) fail(`layer ${layer} chooses ${chosen} experts for each token; force no more of them`);
    if (new Set(own.map(({ number }) => Math.floor((number - 1) / (count / groups)))).size > open) {
      fail(`layer ${layer} chooses ${open} of its ${groups} groups; force experts of no more`);
    }
  }
  for (const layer of new Set(t.muted.map((part) => part.layer))) checkWhatIsLeft(t, shape, layer, chosen);
}

// A token could find too few experts. Groups are chosen by their two best ones.
function checkWhatIsLeft(t, shape, layer, chosen) {
  const { n_routed_experts: count, n_group: groups, topk_group: open } = shape,
    size = count / groups;
  const perGroup = Array(groups).fill(size);
  for (const part of t.muted) if (part.layer === layer) perGroup[Math.floor((part.number - 1) / size)]--;
  const all = groups === open;
  const left = all ? perGroup.reduce((sum, n) => sum + n, 0) : Math.min(...perGroup);
  const needed = all ? chosen : Math.max(2, Math.ceil(chosen / open));
  if (left < needed)
    fail(`layer ${layer} must keep at least ${needed} experts${all ? "" : " in each group"}; mute fewer of them`);
}

function checkLayer(layer, first, shape, problem) {
  if (layer > first && layer <= shape.num_hidden_layers) return;
  const layers = Array.from({ length: shape.num_hidden_layers - first }, (_, at) => first + at + 1);
  fail(`layer ${layer} ${problem} ${layers.join(", ")}`);
}

/** How many routed experts read a token. */
export const expertsPerToken = (t, shape) => t.topExperts ?? shape.num_experts_per_tok;

/** The balancing bias [E] of a layer; `own` is the model's. */
export function biasOf(t, layer, own) {
  const bias = t.biasOff ? own.map(() => 0) : [...own];
  for (const part of t.biases) if (part.layer === layer) bias[part.number - 1] = part.value;
  return bias;
}

/** What the decoder reads: [L·E] added to the affinities and factors on the gates, [L·H] factors on the heads. */
export function arrays(t, shape, ownBias) {
  const { num_hidden_layers: L, n_routed_experts: E, num_attention_heads: H } = shape;
  const bias = new Float32Array(L * E),
    scales = new Float32Array(L * E).fill(1),
    heads = new Float32Array(L * H).fill(1);
  for (const [layer, own] of ownBias) bias.set(biasOf(t, layer, own), (layer - 1) * E);
  for (const [parts, shift] of [
    [t.muted, -FIRST],
    [t.forced, FIRST],
  ]) {
    for (const { layer, number } of parts) bias[(layer - 1) * E + number - 1] += shift;
  }
  for (const { layer, number, value } of t.scales) scales[(layer - 1) * E + number - 1] = value;
  for (const { layer, number } of t.mutedHeads) heads[(layer - 1) * H + number - 1] = 0;
  return { bias, scales, heads };
}

const known = () => `${NAMES.slice(0, -1).join(", ")} and ${NAMES.at(-1)}`;

function shown(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length <= 40 ? text : `${text.slice(0, 39)}…`;
}

function fail(message) {
  throw new TamperingError(message);
}
