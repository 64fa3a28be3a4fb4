// The row of figures of a generation: its tokens, their speed, the time to the first one, and the size of the cache.

import { make } from "./toolkit.js";

/** How many tokens there are, of the prompt and new ones, and when they came: seconds after the start. */
export const newTally = () => ({ prompt: 0, fresh: 0, ready: 0, first: undefined, last: undefined });

/** Counts a token. */
export function countToken(tally, step) {
  if (step.prompt) {
    tally.prompt++;
    tally.ready = step.s ?? 0; // the time of new tokens starts when the prompt has been read
  } else {
    tally.fresh++;
    tally.first ??= step.s;
    tally.last = step.s;
  }
}

/** The figures as [key, value, note]; a key names a text and a part of the view. `timing` is a note on both times. */
export function listStats({ fill, count, bytes }, run, tally, timing = "") {
  const { prompt, fresh, ready, first, last } = tally;
  const total = prompt + fresh;
  const absent = ["–", run.recorded ? fill("stat_recorded") : ""];
  const speed = [count(fresh / (last - ready)), [fill("stat_speed_unit"), timing].filter(Boolean).join(", ")];
  const wait = [`${count(1000 * first)} ms`, timing || fill("stat_first_note")];
  const saves = run.cache_bytes < run.plain_cache_bytes;
  const plain = saves ? fill("stat_cache_note", { plain: bytes(total * run.plain_cache_bytes) }) : "";
  return [
    ["stat_tokens", count(total), fill("stat_tokens_note", { prompt: count(prompt), new: count(fresh) })],
    ["stat_speed", ...(last > ready ? speed : absent)],
    ["stat_first", ...(first === undefined ? absent : wait)],
    [run.attention === "gqa" ? "stat_kv_cache" : "stat_cache", bytes(total * run.cache_bytes), plain],
  ];
}

/** Shows figures in a `dl`, whose nodes stay when only the figures change. */
export function drawStats({ fill }, list, stats) {
  if (list.children.length !== stats.length) list.replaceChildren(...stats.map(([key]) => makeStat(key)));
  stats.forEach(([key, ...texts], index) => {
    [fill(key), ...texts].forEach((text, place) => {
      const node = list.children[index].children[place];
      if (node.textContent !== text) node.textContent = text; // a term that was marked stays so
    });
  });
}

function makeStat(key) {
  const stat = make("div", "");
  const value = make("dd", "");
  value.dataset.part = key.replace("_", "-");
  stat.append(make("dt", ""), value, make("dd", ""));
  return stat;
}
