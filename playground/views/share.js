// What is shared of a view: a link that reproduces it, JSON with every number, and CSV for a spreadsheet.

import { layerOf } from "./routing.js";
import { make } from "./toolkit.js";

const COPIED_MILLISECONDS = 2000;

/**
 * Connects the buttons `copy`, `json` and `csv` of a view.
 *
 * @param {object} shared `name`, of the files; `toolkit`, `announce`; and what is shared when a button is pressed:
 *   `query()`, the parameters of the link by name, `hash`, its end, `data()`, and `table()`, rows of cells.
 */
export function createShare({ name, toolkit, announce, query, hash = "", data, table }) {
  const { part, fill } = toolkit;

  function makeLink() {
    const pairs = Object.entries(query()).map(([key, value]) => `${key}=${encodeReadably(String(value))}`);
    return `${location.origin}${location.pathname}?${pairs.join("&")}${hash}`;
  }

  async function copyLink() {
    const link = makeLink();
    try {
      await navigator.clipboard.writeText(link);
    } catch {
      offerLink(link);
      return;
    }
    part("link").hidden = true;
    part("copy").textContent = fill("copied");
    announce(fill("copied"));
    setTimeout(() => (part("copy").textContent = fill("copy")), COPIED_MILLISECONDS);
  }

  // Shown for manual copying when the clipboard is not available (an insecure origin, a frame without permission).
  function offerLink(link) {
    part("link").hidden = false;
    part("link-field").value = link;
    part("link-field").focus();
    part("link-field").select();
  }

  const toCsv = () => table().map((row) => row.map(csvField).join(",") + "\r\n").join("");

  part("copy").addEventListener("click", copyLink);
  part("json").addEventListener("click", () => save(JSON.stringify(data(), null, 1), "application/json", `${name}.json`));
  part("csv").addEventListener("click", () => save(toCsv(), "text/csv;charset=utf-8", `${name}.csv`));

  return { hideLink: () => (part("link").hidden = true) };
}

// These characters have no meaning in a query, and a space may be a plus.
function encodeReadably(text) {
  return encodeURIComponent(text).replace(/%20/g, "+").replace(/%(?:2C|2F|3A|3F|40)/g, decodeURIComponent);
}

/** The settings of a generation that a link names: the seed, and what differs from the defaults. */
export function settingsToLink(sampling, defaults) {
  const named = Object.entries(defaults).filter(([name, value]) => name in sampling && sampling[name] !== value);
  return { seed: sampling.seed, ...Object.fromEntries(named.map(([name]) => [name, sampling[name]])) };
}

/** The parameters of a link to one generation; see playground/generate/links.py. */
export function requestToLink({ model, prompt, question, sampling, forced, release }, defaults, language) {
  return {
    model,
    prompt,
    ...(question ? { question } : {}),
    ...settingsToLink(sampling, defaults),
    ...(forced.length ? { forced: forced.join(".") } : {}),
    ...(release ? { release } : {}),
    lang: language,
  };
}

/** The events of a generation without their kinds: {start, steps, end}. */
export function exportTrace(run, tokens, outcome) {
  return { start: bare(run), steps: tokens.map(({ step }) => bare(step)), end: outcome && bare(outcome) };
}

function bare({ kind: _kind, side: _side, ...event }) {
  return event;
}

/**
 * The tokens of a generation as a table, its head first: a row per token and layer, numbered from 1 as on the page. A model
 * without experts has one row per token, and `ranks`, the most experts per token, may count those of another generation.
 */
export function tabulate(run, tokens, ranks = run.layers ? run.experts_per_token : 0) {
  const perExpert = ["expert", "gate", "affinity", "bias"];
  const places = Array.from({ length: ranks }, (_, rank) => rank);
  const head = ["position", "id", "text", "prompt", "probability", "layer", "displaced"];
  const rows = [[...head, ...places.flatMap((rank) => perExpert.map((name) => `${name}_${rank + 1}`))]];
  for (const { step } of tokens) {
    const token = [step.i + 1, step.id, step.t, step.prompt, step.p ?? ""];
    if (!run.layers) rows.push([...token, "", "", ...places.flatMap(() => perExpert.map(() => ""))]);
    for (let row = 0; row < run.layers; row++) {
      const experts = places.flatMap((rank) => {
        const expert = step.e[row][rank];
        if (expert === undefined) return perExpert.map(() => "");
        return [expert + 1, step.g[row][rank], step.a[row][rank], run.bias[row][expert]];
      });
      rows.push([...token, layerOf(run, row), step.d[row].map((expert) => expert + 1).join(" "), ...experts]);
    }
  }
  return rows;
}

// A spreadsheet runs a cell as a formula that begins with one of = + - @, tabs and line breaks aside, with something to
// compute after it. Such a text gets an apostrophe in front. Signs alone, such as "--", and numbers, such as -1, are none.
const isFormula = (text) => /^[\t\r\n]*[=+@-][\s=+@-]*[^\s=+@-]/.test(text) && !/^\s*[+-]?\d+(?:[.,]\d+)?\s*$/.test(text);

// Quoted as RFC 4180 says: where a separator, a quote or a line break is in the text, or white space at an end of it.
function csvField(value) {
  if (typeof value !== "string") return String(value);
  const safe = isFormula(value) ? `'${value}` : value;
  return /[",\r\n\t']|^\s|\s$/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

function save(text, type, name) {
  const link = make("a", "");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
