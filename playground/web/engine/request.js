// What a visitor may ask for, checked as playground/generate/request.py does.
import { Refusal } from "./errors.js";
import { loopsOf } from "./shape.js";
import { checkTampering, readTampering } from "./tampering.js";

export const MOST_CHARACTERS = 8_000; // of a prompt

const LEAST_TEMPERATURE = 0.01;

/** Lowest and highest value of each setting, and whether it is a whole number. */
export const LIMITS = {
  temperature: { low: 0, high: 2 },
  top_k: { low: 0, high: 200, whole: true },
  top_p: { low: 0.05, high: 1 },
  min_p: { low: 0, high: 0.5 },
  repetition_penalty: { low: 1, high: 2 },
  max_new_tokens: { low: 1, high: 512, whole: true },
  min_new_tokens: { low: 0, high: 512, whole: true },
  num_loops: { low: 0, high: 8, whole: true },
  seed: { low: 0, high: 2 ** 53 - 1, whole: true },
};

export const DEFAULTS = {
  temperature: 0,
  top_k: 0,
  top_p: 1,
  min_p: 0,
  repetition_penalty: 1,
  max_new_tokens: 200,
  min_new_tokens: 0,
  num_loops: 0,
  seed: 0,
};

/** Checks {prompt, sampling, forced, tampering}; settings that are left out have their default. Throws Refusal. */
export function checkRequest(name, shape, asked) {
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  if (!isObject(asked) || !isObject(asked.sampling ?? {})) throw new Refusal("no_request");
  const prompt = checkPrompt(asked.prompt),
    sampling = checkSettings({ ...DEFAULTS, ...asked.sampling });
  const forced = checkForced(asked.forced ?? []),
    tampering = checkTampering(readTampering(asked.tampering || {}), shape);
  if (loopsOf(shape, sampling.num_loops) === null)
    throw new Refusal("loops", { name: "num_loops", model: name, value: sampling.num_loops });
  const wrong = forced.find((token) => token >= shape.vocab_size);
  if (wrong !== undefined) throw new Refusal("no_token", { model: name, token: wrong, last: shape.vocab_size - 1 });
  return { prompt, sampling, forced, tampering };
}

export function checkPrompt(value) {
  if (typeof value !== "string" || !value) throw new Refusal("no_prompt");
  const count = Array.from(value).length;
  if (count > MOST_CHARACTERS) throw new Refusal("long_prompt", { count, most: MOST_CHARACTERS });
  if (/\p{Surrogate}/u.test(value)) throw new Refusal("broken_prompt");
  return value;
}

export function checkSettings(values) {
  const unknown = Object.keys(values)
    .filter((name) => !Object.hasOwn(LIMITS, name))
    .sort();
  if (unknown.length)
    throw new Refusal("unknown", { name: shorten(unknown[0]), known: Object.keys(LIMITS).join(", ") });
  const checked = {};
  for (const [name, { low, high, whole }] of Object.entries(LIMITS)) {
    const value = values[name];
    const fits = typeof value === "number" && value >= low && value <= high && (!whole || Number.isInteger(value));
    if (!fits)
      throw new Refusal("number", {
        name,
        kind: whole ? "whole_number" : "a_number",
        low,
        high,
        value: shorten(value),
      });
    checked[name] = value;
  }
  const { min_new_tokens: least, max_new_tokens: most, temperature } = checked;
  if (least > most) throw new Refusal("minimum", { name: "min_new_tokens", least, most });
  if (temperature > 0 && temperature < LEAST_TEMPERATURE)
    throw new Refusal("temperature", { name: "temperature", value: shorten(temperature), low: LEAST_TEMPERATURE });
  return checked;
}

function checkForced(value) {
  if (!Array.isArray(value) || !value.every((id) => Number.isInteger(id) && id >= 0)) throw new Refusal("forced");
  if (value.length > LIMITS.max_new_tokens.high)
    throw new Refusal("long_forced", { count: value.length, most: LIMITS.max_new_tokens.high });
  return value;
}

function shorten(value) {
  const text = typeof value === "string" ? `'${value}'` : String(value);
  return text.length <= 40 ? text : `${text.slice(0, 39)}…`;
}
