// Exports of the shown trace: a link that reproduces it, JSON with every number, and CSV for a spreadsheet.

import { layerOf } from "./routing.js";
import { make } from "./toolkit.js";

const COPIED_MILLISECONDS = 2000;

export function createShare(trace) {
  const { part, fill } = trace.toolkit;
  const { props } = trace.host;

  // ------------------------------------------------------------------------------------------------------------- link

  // The model, the prompt, the seed, and what differs from the defaults; see playground/generate/links.py.
  function makeLink() {
    const { model, prompt, sampling, forced } = trace.run;
    const asked = { model, prompt, seed: sampling.seed };
    for (const [name, value] of Object.entries(props.defaults)) {
      if (name in sampling && sampling[name] !== value) asked[name] = sampling[name];
    }
    if (forced.length) asked.forced = forced.join(".");
    asked.lang = props.language;
    const query = Object.entries(asked).map(([name, value]) => `${name}=${encodeReadably(String(value))}`);
    return `${location.origin}${location.pathname}?${query.join("&")}`;
  }

  // These characters have no meaning in a query, and a space may be a plus.
  function encodeReadably(text) {
    return encodeURIComponent(text).replace(/%20/g, "+").replace(/%(?:2C|2F|3A|3F|40)/g, decodeURIComponent);
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
    trace.announce(fill("copied"));
    setTimeout(() => (part("copy").textContent = fill("copy")), COPIED_MILLISECONDS);
  }

  // Shown for manual copying when the clipboard is not available (an insecure origin, a frame without permission).
  function offerLink(link) {
    part("link").hidden = false;
    part("link-field").value = link;
    part("link-field").focus();
    part("link-field").select();
  }

  // ------------------------------------------------------------------------------------------------------------ files

  function toJson() {
    const steps = trace.tokens.map(({ step }) => bare(step));
    return JSON.stringify({ start: bare(trace.run), steps, end: trace.outcome && bare(trace.outcome) }, null, 1);
  }

  // One row per token and layer, numbered from 1 as on the page; a model without experts has one row per token.
  function toCsv() {
    const { run, tokens } = trace;
    const ranks = Array.from({ length: run.layers ? run.experts_per_token : 0 }, (_, rank) => rank);
    const perExpert = ["expert", "gate", "affinity", "bias"];
    const header = ["position", "id", "text", "prompt", "probability", "layer", "displaced"];
    const rows = [[...header, ...ranks.flatMap((rank) => perExpert.map((name) => `${name}_${rank + 1}`))]];
    for (const { step } of tokens) {
      const token = [step.i + 1, step.id, step.t, step.prompt, step.p ?? ""];
      if (!run.layers) rows.push([...token, "", ""]);
      for (let row = 0; row < run.layers; row++) {
        const experts = ranks.flatMap((rank) => {
          const expert = step.e[row][rank];
          return [expert + 1, step.g[row][rank], step.a[row][rank], run.bias[row][expert]];
        });
        const displaced = step.d[row].map((expert) => expert + 1).join(" ");
        rows.push([...token, layerOf(run, row), displaced, ...experts]);
      }
    }
    return rows.map((row) => row.map(csvField).join(",") + "\r\n").join("");
  }

  part("copy").addEventListener("click", copyLink);
  part("json").addEventListener("click", () => save(toJson(), "application/json", "axion-trace.json"));
  part("csv").addEventListener("click", () => save(toCsv(), "text/csv;charset=utf-8", "axion-trace.csv"));

  return { hideLink: () => (part("link").hidden = true) };
}

function bare({ kind: _kind, ...event }) {
  return event;
}

// Text that a spreadsheet would run as a formula gets an apostrophe in front. Signs alone, such as "--", are no formula.
function csvField(value) {
  if (typeof value !== "string") return String(value);
  const safe = /^[=@\t\r]|^[+-].*[^\s+-]/s.test(value) ? `'${value}` : value;
  return /[",\r\n\t']|^\s|\s$/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

function save(text, type, name) {
  const link = make("a", "");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
