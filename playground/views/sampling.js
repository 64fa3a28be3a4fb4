// How a token is drawn: the model's own distribution beside the one that the sampling settings leave of it. It follows the
// controls of the page, without asking the model again.

import { drawShares } from "./distribution.js";
import { make } from "./toolkit.js";

export function createSampling(trace) {
  const { part, fill, visible, finePercent, count, twoDigits } = trace.toolkit;
  const box = part("sampling");
  let drawing = 0; // the last drawing that was begun; an answer may come after the next one

  const settings = () => ({ ...trace.run.sampling, ...trace.host.props.settings });

  /** Draws the distribution of the chosen token; `next` for the one after it. */
  async function draw(next = trace.tour.showsNext()) {
    const mine = ++drawing;
    if (!trace.run || !box.open) return;
    const index = trace.subject();
    const found = await trace.closeup.inspect(index);
    if (mine !== drawing || !trace.run) return;
    const at = next ? index + 1 : index; // the token that is drawn from it
    const distribution = next ? found?.after : found?.before;
    part("sampling-title").textContent = describeToken(at);
    part("sampling-settings").textContent = distribution ? describeSettings() : "";
    const rows = part("sampling-rows");
    if (distribution) rows.replaceChildren(...makeRows(distribution, at));
    else rows.replaceChildren(make("li", "av-hint", fill(index < 0 || found ? "drawn_none" : "closeup_unavailable")));
  }

  function describeToken(at) {
    const step = trace.tokens[at]?.step;
    if (!step) return fill("drawn_next", { token: trace.tokens.length + 1 });
    return fill(step.prompt ? "drawn_prompt" : "drawn_token", { token: at + 1, text: visible(step.t) });
  }

  // The settings that change a distribution, those that are switched off left out.
  function describeSettings() {
    const { temperature, top_k: topK, top_p: topP, min_p: minP, repetition_penalty: penalty } = settings();
    const parts = [fill("drawn_temperature", { temperature })];
    if (temperature > 0 && topK > 0) parts.push(`top-k ${count(topK)}`);
    if (temperature > 0 && topP < 1) parts.push(`top-p ${twoDigits(topP)}`);
    if (temperature > 0 && minP > 0) parts.push(`min-p ${twoDigits(minP)}`);
    if (penalty !== 1) parts.push(fill("drawn_penalty", { penalty }));
    return fill("drawn_with", { settings: parts.join(" · ") });
  }

  function makeRows({ top, rest }, at) {
    const { run, tokens } = trace;
    const named = top.map(([id, text, logit, seen]) => ({ id, text, logit, count: 1, seen, ends: run.ends.includes(id) }));
    const groups = rest.map(([logit, tokensOf, seen]) => ({ logit, count: tokensOf, seen, ends: false }));
    const fresh = at - tokens.filter(({ step }) => step.prompt).length; // new tokens before this one
    const mayEnd = fresh < 0 || fresh >= (settings().min_new_tokens ?? 0);
    const found = drawShares([...named, ...groups], settings(), mayEnd);
    const chosen = tokens[at]?.step;
    const rows = named.map((candidate, index) => makeRow(candidate, found[index], candidate.id === chosen?.id));
    if (groups.length) rows.push(makeRest(groups, found.slice(named.length)));
    return rows;
  }

  function makeRow(candidate, share, isChosen) {
    const word = candidate.ends ? make("em", "", fill("end_of_text")) : make("q", "", visible(candidate.text));
    return makeLine(word, share.before, share.after, share.cut, isChosen);
  }

  // All other tokens of the vocabulary together.
  function makeRest(groups, found) {
    const sum = (name) => found.reduce((total, share) => total + share[name], 0);
    const all = groups.reduce((total, group) => total + group.count, 0);
    const kept = sum("kept");
    const word = make("em", "", fill("drawn_rest", { count: count(all) }));
    const cut = kept ? null : found.find((share) => share.cut)?.cut;
    const line = makeLine(word, sum("before"), sum("after"), cut, false);
    if (kept && kept < all) line.querySelector(".av-share").append(make("small", "", fill("drawn_kept", { count: count(kept) })));
    return line;
  }

  function makeLine(word, before, after, cut, isChosen) {
    const line = make("li", cut ? "av-cut" : "");
    const track = make("span", "av-share");
    for (const [name, share] of Object.entries({ before, after })) {
      const bar = make("i", `av-${name}`);
      bar.style.transform = `scaleX(${share})`;
      track.append(bar);
    }
    const numbers = make("span", "av-shares", `${finePercent(before)} → ${cut ? "–" : finePercent(after)}`);
    if (cut) track.append(make("small", "", fill(`cut_${cut}`)));
    if (isChosen) track.append(make("small", "av-taken", fill("drawn_taken")));
    line.append(word, track, numbers);
    return line;
  }

  box.addEventListener("toggle", () => draw());
  trace.host.watch("settings", () => draw());

  return { draw, open: () => (box.open = true) };
}
