// A tour of six steps through the model, driven by one token of the shown text: from text to tokens, attention, the router,
// the experts, and the distribution of the next token. Each step lights up what it speaks of in the view. The third step
// has the address #tour-3. Models without experts have other steps in their place.

import { drawFlow } from "./flow.js";
import { meanOf } from "./attention.js";
import { seenOf } from "./form.js";
import { layerOf, makeExpert, nameExpert, spellLayer } from "./routing.js";
import { make, prefersCalm } from "./toolkit.js";

const STEPS = ["text", "tokens", "attention", "router", "experts", "next"];
const ADDRESS = /^#tour-([1-6])$/;
const NEIGHBOURS = 2; // tokens before and after the chosen one
const ROWS = 8; // of a table
const LIKELIEST = 3; // next tokens that are named

export function createTour(trace) {
  const { part, fill, visible, count, bytes, percent, percents, precisePercent, threeDigits } = trace.toolkit;
  const card = part("tour");
  let at = -1; // the index of the step that is shown
  let drawing = 0; // the last drawing that was begun; an answer may come after the next one
  let opened = []; // sections that the tour has opened
  let lit = [];

  const isOpen = () => at >= 0;

  // ---------------------------------------------------------------------------------------------------- walking along

  function open(step, focus = true) {
    if (!trace.tokens.length) return;
    at = step;
    card.hidden = false;
    trace.view.classList.add("av-touring");
    place();
    trace.popover.close();
    if (trace.chosen() < 0) trace.walk.pin(trace.subject());
    keepAddress(`#tour-${at + 1}`);
    draw(true, focus);
  }

  function leave() {
    if (!isOpen()) return;
    at = -1;
    drawing++;
    card.hidden = true;
    trace.view.classList.remove("av-touring");
    light([]);
    close();
    trace.sampling.draw();
    keepAddress("");
    part("tour-open").focus({ preventScroll: true });
  }

  function walk(by) {
    const next = at + by;
    if (next >= STEPS.length) leave();
    else if (next >= 0) open(next);
  }

  function keepAddress(hash) {
    if (hash || ADDRESS.test(location.hash)) {
      history.replaceState(history.state, "", `${location.pathname}${location.search}${hash}`);
    }
  }

  function followAddress() {
    const [, step] = ADDRESS.exec(location.hash) ?? [];
    if (step && Number(step) - 1 !== at) open(Number(step) - 1);
  }

  /** The chosen token, or what is known of it, has changed. */
  function follow() {
    if (isOpen()) draw(false, false);
    else if (trace.ended) followAddress();
  }

  // Beside the view where there is room, so that it covers nothing that is lit.
  function place() {
    const { left } = trace.view.getBoundingClientRect();
    card.classList.toggle("av-beside", left > 300);
    card.style.setProperty("--room", `${left - 24}px`);
  }

  // ------------------------------------------------------------------------------------------------------- one step

  async function draw(scroll, focus) {
    const mine = ++drawing;
    const [index, stage] = [trace.subject(), STEPS[at]];
    const token = trace.tokens[index];
    if (!token) return;
    close(stage);
    const asking = trace.closeup.inspect(index);
    const early = await Promise.race([asking, new Promise((resolve) => setTimeout(resolve, 60))]);
    if (mine !== drawing) return;
    show(stage, index, early ?? null);
    light(findLit(stage, index), scroll);
    if (focus) part("tour-title").focus({ preventScroll: true });
    if (early === undefined) {
      const found = await asking;
      if (mine === drawing) show(stage, index, found);
    }
  }

  function show(stage, index, found) {
    const { step } = trace.tokens[index];
    const kind = trace.run.layers || !["router", "experts"].includes(stage) ? stage : { router: "network", experts: "depth" }[stage];
    part("tour-count").textContent = fill("tour_count", { step: at + 1, steps: STEPS.length });
    part("tour-title").textContent = fill(`tour_${kind}`);
    part("tour-back").disabled = at === 0;
    part("tour-next").textContent = fill(at + 1 < STEPS.length ? "tour_forth" : "tour_end");
    part("tour-picture").replaceChildren(drawFlow(describeFlow(stage, index, found)));
    const body = part("tour-body");
    body.replaceChildren(...explain[kind](step, index, found));
    for (const node of body.querySelectorAll("p")) trace.terms.mark(node);
  }

  // Paragraphs and tables of each step; `found` is null while the host has not answered, or if it cannot.
  const explain = {
    text(step) {
      const { run, tokens } = trace;
      const fresh = tokens.filter((token) => !token.step.prompt).length;
      const values = { characters: count([...run.prompt].length), new: count(fresh), token: visible(step.t), number: step.i + 1 };
      return [say("tour_text_1", values), say("tour_text_2", values)];
    },

    tokens(step, index) {
      const { run, tokens } = trace;
      const values = { vocabulary: count(run.vocabulary), tokens: count(tokens.length), token: visible(step.t), id: step.id };
      const near = tokens.slice(Math.max(0, index - NEIGHBOURS), index + NEIGHBOURS + 1).map((token) => token.step);
      const rows = near.map((one) => ({ mark: one === step, cells: [String(one.i + 1), make("q", "", visible(one.t)), String(one.id)] }));
      return [say("tour_tokens_1", values), makeTable(["tour_number", "tour_piece", "tour_id"], rows)];
    },

    attention(step, index, found) {
      const { run } = trace;
      const values = { layer: spellPass(), heads: run.heads, count: count(index + 1), token: visible(step.t) };
      const nodes = [say(run.heads > 1 ? "tour_attention_1" : "tour_attention_one", values)];
      if (found) nodes.push(makeHeads(found));
      const [kept, plain] = [run.cache_bytes, run.plain_cache_bytes];
      const sizes = { layer: bytes(kept / run.passes.length), all: bytes(kept), passes: run.passes.length, plain: bytes(plain) };
      nodes.push(say(kept < plain ? "tour_cache_small" : "tour_cache", sizes));
      return nodes;
    },

    router(step, _, found) {
      const { run, layer } = trace;
      const [groups, open] = run.groups;
      const values = { layer: spellLayer(run, layer, fill), experts: run.experts, chosen: run.experts_per_token, groups, open };
      const nodes = [say("tour_router_1", values), makeScores(step, found)];
      if (open < groups) nodes.push(say("tour_router_groups", values));
      nodes.push(say(step.d[layer].length ? "tour_router_displaced" : "tour_router_same", values));
      if (Object.keys(run.tampering ?? {}).length) nodes.push(say("tour_tampered"));
      return nodes;
    },

    experts(step) {
      const { run, layer } = trace;
      const weights = percents(step.g[layer]);
      const read = step.e[layer].map((expert, rank) => `${nameExpert(run, layer, expert)} (${weights[rank]})`).join(", ");
      const values = { experts: read, idle: run.experts - run.experts_per_token, shared: run.shared_experts };
      const shared = run.shared_experts === 1 ? "tour_shared_one" : "tour_shared_many";
      return [say("tour_experts_1", values), ...(run.shared_experts ? [say(shared, values)] : []), ...(values.idle ? [say("tour_experts_2", values)] : [])];
    },

    network: () => [say("tour_network_1", {})],

    depth() {
      const { passes } = trace.run;
      const layers = new Set(passes.map(([layer]) => layer)).size;
      const loops = Math.max(...passes.map(([, loop]) => loop));
      const looped = new Set(passes.filter(([, loop]) => loop > 1).map(([layer]) => layer)).size;
      return [say(loops > 1 ? "tour_depth_loops" : "tour_depth_1", { layers, loops, looped, passes: passes.length })];
    },

    next(step, index, found) {
      const { run, tokens } = trace;
      const likeliest = describeLikeliest(index, found);
      const next = tokens[index + 1]?.step;
      const values = { vocabulary: count(run.vocabulary), token: visible(step.t), likeliest, next: next ? visible(next.t) : "" };
      const nodes = [say("tour_next_1", values)];
      if (likeliest) nodes.push(say("tour_next_likeliest", values));
      nodes.push(say(!next ? "tour_next_none" : next.prompt ? "tour_next_given" : "tour_next_drawn", values));
      return nodes;
    },
  };

  const say = (key, values) => make("p", "", fill(key, values));

  function spellPass() {
    const index = trace.attention.pass();
    const [layer, loop] = trace.run.passes[index] ?? [1, 1];
    const looped = trace.run.passes.some((other) => other[0] === layer && other[1] !== loop);
    return looped ? fill("looped_layer", { layer, loop }) : layer;
  }

  // ---------------------------------------------------------------------------------------------------------- numbers

  function makeHeads({ attention }) {
    const heads = attention[trace.attention.pass()];
    const rows = heads.slice(0, ROWS).map((weights, head) => {
      const most = weights.indexOf(Math.max(...weights));
      const { step } = trace.tokens[most];
      return { cells: [String(head + 1), make("q", "", visible(step.t)), String(most + 1), precisePercent(weights[most])] };
    });
    return makeTable(["tour_head", "tour_looks", "tour_number", "tour_weight"], rows);
  }

  // Of all experts where they are known and few, else of those that have the highest sums.
  function makeScores(step, found) {
    const { run, layer } = trace;
    const scores = scoresOf(step, found);
    const rows = [...scores.keys()]
      .sort((one, other) => scores.get(other) + run.bias[layer][other] - scores.get(one) - run.bias[layer][one])
      .sort((one, other) => step.e[layer].includes(other) - step.e[layer].includes(one))
      .slice(0, Math.max(ROWS, run.experts_per_token))
      .map((expert) => {
        const [score, bias] = [scores.get(expert), run.bias[layer][expert]];
        const rank = step.e[layer].indexOf(expert);
        const weight = rank < 0 ? "–" : percents(step.g[layer])[rank];
        const signed = `${bias < 0 ? "−" : "+"}${threeDigits(Math.abs(bias))}`;
        const sum = threeDigits(Number(score.toFixed(3)) + Number(bias.toFixed(3)));
        return { mark: rank >= 0, cells: [makeExpert("b", "", run, layer, expert), threeDigits(score), signed, sum, weight] };
      });
    return makeTable(["tour_expert", "tour_score", "tour_bias", "tour_sum", "tour_weight"], rows);
  }

  // By expert; without an answer of the host, those that the trace has.
  function scoresOf(step, found) {
    const { layer } = trace;
    if (found) return new Map(found.scores[layer].map((score, expert) => [expert, score]));
    return new Map(step.e[layer].map((expert, rank) => [expert, step.a[layer][rank]]));
  }

  function describeLikeliest(index, found) {
    const next = trace.tokens[index + 1]?.step;
    if (found) {
      const { top, rest } = found.after;
      const all = [...top.map(([, , logit]) => Math.exp(logit - top[0][2])), ...rest.map(([logit, size]) => size * Math.exp(logit - top[0][2]))];
      const total = all.reduce((sum, weight) => sum + weight, 0);
      return list(top.slice(0, LIKELIEST).map(([id, text], place) => [id, text, all[place] / total]));
    }
    return next && !next.prompt ? list(next.alt.slice(0, LIKELIEST)) : "";
  }

  const list = (candidates) => candidates.map(([id, text, p]) => `${trace.popover.wordOf(id, text)} ${percent(p)}`).join(", ");

  function makeTable(heads, rows) {
    const table = make("table", "av-tour-table");
    const line = table.createTHead().insertRow();
    for (const key of heads) {
      const cell = make("th", "", fill(key));
      cell.scope = "col";
      line.append(cell);
    }
    const body = table.createTBody();
    for (const { cells, mark } of rows) {
      const row = body.insertRow();
      row.classList.toggle("av-marked", Boolean(mark));
      for (const content of cells) row.insertCell().append(content);
    }
    return table;
  }

  // ------------------------------------------------------------------------------------------------------ the drawing

  function describeFlow(stage, index, found) {
    const { run, layer, tokens } = trace;
    const { step } = tokens[index];
    const labels = Object.fromEntries(["attention", "cache", "router", "network", "shared"].map((name) => [name, fill(`flow_${name}`)]));
    return {
      stage,
      token: visible(step.t),
      next: tokens[index + 1] ? visible(tokens[index + 1].step.t) : "?",
      weights: found && meanOf(found.attention[trace.attention.pass()]),
      cache: bytes(run.cache_bytes / run.passes.length),
      experts: run.layers ? expertsOf(step, found) : [],
      all: run.experts,
      shared: run.layers > 0 && run.shared_experts > 0,
      labels: { ...labels, router: run.layers ? `${labels.router} L${layerOf(run, layer)}` : "" },
    };
  }

  // All experts of a layer where they are few, else those that read the token.
  function expertsOf(step, found) {
    const { run, layer } = trace;
    const scores = scoresOf(step, found);
    const all = found && run.experts <= ROWS ? [...scores.keys()] : step.e[layer].slice(0, ROWS);
    const whole = step.g[layer].reduce((sum, gate) => sum + gate, 0);
    return all.map((expert) => {
      const rank = step.e[layer].indexOf(expert);
      return { expert, name: `E${expert + 1}`, score: scores.get(expert), gate: rank < 0 ? null : step.g[layer][rank] / whole };
    });
  }

  // ------------------------------------------------------------------------------------------------- lighting up

  function findLit(stage, index) {
    const { run, layer, tokens } = trace;
    const { span, step } = tokens[index];
    if (stage === "text") return [part("text")];
    if (stage === "tokens") return [seenOf(span)];
    if (stage === "attention") {
      open_("attention");
      return [part("attention"), part(run.attention === "gqa" ? "stat-kv-cache" : "stat-cache")?.parentElement];
    }
    if (stage === "next") {
      open_("sampling");
      return [part("sampling")];
    }
    if (!run.layers) return [part("verdict")];
    if (stage === "router") return [part("ribbon"), part("token")];
    return [part("load"), ...step.e[layer].map((expert) => trace.figures.cellOf(layer, expert))];
  }

  function open_(name) {
    if (part(name).open) return;
    part(name).open = true;
    opened.push(name);
  }

  // Closes what the tour has opened, except for what this step needs.
  function close(stage = "") {
    const needed = { attention: "attention", next: "sampling" }[stage];
    for (const name of opened.filter((one) => one !== needed)) part(name).open = false;
    opened = opened.filter((one) => one === needed);
    if (stage === "next" || !stage) trace.sampling.draw();
  }

  function light(nodes, scroll = false) {
    for (const node of lit) node.classList.remove("av-lit");
    lit = nodes.filter(Boolean);
    for (const node of lit) node.classList.add("av-lit");
    if (!scroll || !lit.length) return;
    trace.walk.reveal(trace.subject());
    const { top } = lit[0].getBoundingClientRect();
    scrollBy({ top: top - 96, behavior: prefersCalm() ? "auto" : "smooth" });
  }

  // ------------------------------------------------------------------------------------------------- keys and clicks

  card.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && trace.terms.isOpen()) return; // closes that alone
    if (event.key === "Escape") leave();
    else if (event.key === "ArrowRight") walk(1);
    else if (event.key === "ArrowLeft") walk(-1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  part("tour-open").addEventListener("click", () => open(0));
  part("tour-close").addEventListener("click", leave);
  part("tour-back").addEventListener("click", () => walk(-1));
  part("tour-next").addEventListener("click", () => walk(1));
  addEventListener("hashchange", followAddress);
  addEventListener("popstate", followAddress);
  addEventListener("resize", place);

  return { follow, leave, isOpen, showsNext: () => STEPS[at] === "next" };
}
