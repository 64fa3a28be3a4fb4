// The view of a model's experts: their load and their favourite tokens. The value is one JSON object (see describe_experts
// in playground/content/experts.py). Its token texts come from a release and are set as `textContent` only.

import { createAbsences } from "./absences.js";
import { layerOf, makeExpert, makeExpertHead, paint, PALETTE, spellExpert, spellLayer } from "./routing.js";
import { createTerms } from "./terms.js";
import { createToolkit, make, NARROW } from "./toolkit.js";

const ALL = -1;
const NUMBERED = 32; // a heat map of more experts has no room for numbers, and for few names only
const SENTENCES = 3; // of so many favourites of an expert a sentence is shown at once
const NAMED = 8; // the number of dead experts that are named

export function start(host) {
  const { props, watch } = host;
  const toolkit = createToolkit(host);
  const { part, fill, translate, visible, count, oneDigit, twoDigits, precisePercent, shortPercent, plain } = toolkit;
  const terms = createTerms(host);
  const absences = createAbsences(host, toolkit, terms);
  let data = null;
  let shownSet = "";
  let shownLayer = ALL;

  function readValue() {
    data = props.value ? JSON.parse(props.value) : { layers: 0 };
    const sets = Object.keys(data.load || {});
    if (!sets.includes(shownSet)) shownSet = sets[0] || "";
    const all = data.experts <= PALETTE && !NARROW.matches; // more would not fit
    shownLayer = all ? ALL : 0;
    draw();
  }

  function draw() {
    translate();
    terms.markAll();
    part("error").hidden = !data.error;
    part("error").textContent = data.error || "";
    const dense = !data.error && !data.layers;
    part("empty").hidden = !dense;
    part("empty").textContent = dense ? fill("no_experts") : "";
    for (const name of ["load", "favourites"]) part(name).hidden = !data.layers;
    absences.show(data);
    if (!data.layers) return;
    part("view").classList.toggle("ax-many", data.experts > PALETTE);
    drawLoad();
    drawFavourites();
  }

  // Radio buttons that look like one switch; `options` are pairs of value and label.
  function drawChoice(group, name, label, options, chosen, choose) {
    group.replaceChildren();
    group.setAttribute("aria-label", label);
    group.append(make("span", "ax-choice-name", label));
    for (const [value, text] of options) {
      const button = make("label", "", text);
      const radio = make("input", "");
      Object.assign(radio, { type: "radio", name, checked: value === chosen });
      radio.addEventListener("change", () => choose(value));
      button.prepend(radio);
      group.append(button);
    }
  }

  // ------------------------------------------------------------------------------------------------------- the load

  function drawLoad() {
    const sets = Object.keys(data.load);
    part("sets").hidden = sets.length === 0;
    const options = sets.map((set) => [set, fill(`set_${set}`)]);
    drawChoice(part("sets"), "axion-load-set", fill("set"), options, shownSet, (set) => {
      shownSet = set;
      drawHeat();
      drawVerdicts();
      for (const card of part("cards").querySelectorAll("[data-expert]")) drawCardLoad(card);
    });
    drawHeat();
    drawVerdicts();
  }

  function drawHeat() {
    const heat = part("heat");
    const load = data.load[shownSet];
    heat.replaceChildren();
    heat.hidden = !load;
    if (!load) return;
    heat.setAttribute("aria-label", fill("load"));
    heat.style.setProperty("--experts", data.experts);
    heat.append(make("span", ""));
    const bare = data.experts > NUMBERED;
    heat.classList.toggle("ax-bare", bare);
    for (let expert = 0; expert < data.experts; expert++) {
      const name = makeExpertHead("ax-expert", expert, data.experts);
      if (bare && expert % 8) name.textContent = "";
      heat.append(name);
    }
    load.forEach((layer, row) => {
      heat.append(make("span", "", `L${layerOf(data, row)}`));
      layer.forEach((share, expert) => {
        const cell = make("i", "", twoDigits(share));
        const label = fill("load_cell", { expert: spellExpert(data, row, expert, fill), times: twoDigits(share) });
        cell.style.setProperty("--heat", Math.min(share, 2) / 2); // the fair share is in the middle
        cell.title = label;
        cell.setAttribute("role", "img");
        cell.setAttribute("aria-label", label);
        heat.append(cell);
      });
    });
  }

  function drawVerdicts() {
    const load = data.load[shownSet];
    const lines = [fill("fair", { share: shortPercent(data.per_token / data.experts), active: data.per_token, experts: data.experts })];
    if (load) {
      const cells = load.flatMap((layer, row) => layer.map((share, expert) => ({ share, expert: spellExpert(data, row, expert, fill) })));
      const most = cells.reduce((best, cell) => (cell.share > best.share ? cell : best));
      const least = cells.reduce((best, cell) => (cell.share < best.share ? cell : best));
      lines.push(
        fill("range", {
          expert: most.expert,
          times: twoDigits(most.share),
          idle: least.expert,
          idle_times: twoDigits(least.share),
        })
      );
      lines.push(describeDead(data.dead[shownSet]));
      if (data.overload !== null) lines.push(fill("beside_training", { overload: precisePercent(data.overload) }));
    } else lines.push(fill("no_load"));
    part("verdicts").replaceChildren(...lines.map((line) => make("p", "", line)));
    terms.mark(part("verdicts"));
    if (load && data.command) {
      const source = make("p", "ax-small", `${fill("measured_by")} `);
      source.append(make("code", "", data.command));
      part("verdicts").append(source);
    }
  }

  function describeDead(dead) {
    const names = dead.slice(0, NAMED).map(([row, expert]) => spellExpert(data, row, expert - 1, fill));
    if (dead.length > NAMED) names.push(fill("dead_more", { count: count(dead.length - NAMED) }));
    return fill(dead.length ? "dead" : "none_dead", { below: data.dead_below, experts: names.join(", ") });
  }

  // ------------------------------------------------------------------------------------------------- the favourite tokens

  function drawFavourites() {
    const known = data.cards !== null;
    part("layers").hidden = !known;
    const fair = data.per_token / data.experts;
    const note = { share: shortPercent(fair), most: plain(Number((1 / fair).toFixed(1))) };
    part("note").textContent = fill(known ? "favourites_note" : "no_favourites", note);
    part("rule").textContent = known ? describeRule() : "";
    terms.mark(part("note"));
    const layers = Array.from({ length: data.layers }, (_, row) => [row, `L${layerOf(data, row)}`]);
    if (data.experts <= PALETTE) layers.unshift([ALL, fill("all_layers")]);
    drawChoice(part("layers"), "axion-favourites-layer", fill("layers"), layers, shownLayer, (layer) => {
      shownLayer = layer;
      drawCards();
    });
    drawCards();
  }

  function describeRule() {
    const tokens = data.cards.flat().flatMap((card) => (card ? card.tokens : []));
    if (tokens.length && tokens.every((token) => token[4] === null)) return fill("no_significance");
    const values = { bound: oneDigit(data.bound), looked_at: count(data.looked_at), risk: shortPercent(data.error_rate) };
    return fill("significance", values);
  }

  function drawCards() {
    part("cards").replaceChildren();
    if (data.cards === null) return;
    data.cards.forEach((cards, row) => {
      if (shownLayer !== ALL && shownLayer !== row) return;
      const layer = spellLayer(data, row, fill);
      const grid = make("div", "ax-cards");
      grid.style.setProperty("--columns", Math.min(data.experts, 4));
      cards.forEach((card, expert) => grid.append(drawCard(card, row, expert)));
      part("cards").append(make("h3", "", fill("layer", { layer })), grid);
    });
  }

  function drawCard(card, row, expert) {
    const article = make("article", "ax-card");
    article.dataset.layer = row;
    article.dataset.expert = expert;
    const head = make("header", "");
    head.append(makeExpert("h4", "ax-expert", data, row, expert));
    head.append(make("span", "ax-share"));
    article.append(head, make("div", "ax-card-load"));
    drawCardLoad(article);
    if (card && card.tokens.length) {
      article.append(describeFavourites(card));
      const list = make("ul", "ax-chips");
      const head = make("li", "ax-chips-head");
      head.append(...["column_token", "column_lift", "column_count"].map((key) => make("span", "", fill(key))));
      head.firstChild.style.textAlign = "left";
      list.append(head, ...card.tokens.map(drawToken));
      article.append(list, ...drawContexts(card.tokens));
    } else article.append(make("p", "", fill(card ? "nothing" : "no_favourites")));
    return article;
  }

  function drawCardLoad(article) {
    const place = article.querySelector(".ax-card-load");
    const { layer, expert } = article.dataset;
    const load = data.load[shownSet];
    const reads = load ? (load[layer][expert] * data.per_token) / data.experts : data.cards[layer][expert]?.share;
    article.querySelector(".ax-share").textContent = reads === undefined ? "" : fill("share", { share: precisePercent(reads) });
    place.hidden = !load;
    place.replaceChildren();
    if (!load) return;
    const share = load[layer][expert];
    const bar = make("div", "ax-load-bar");
    const filled = make("i", "");
    filled.style.width = `${Math.min(100, 50 * share)}%`; // the fair share, in the middle, is marked by a tick
    paint(filled, Number(expert), data.experts);
    bar.append(filled);
    place.append(bar, make("span", "", `${twoDigits(share)}×`));
    place.title = fill("card_load", { times: twoDigits(share) });
  }

  // "Prefers digits: …" if that is statistically significant, else the kinds of tokens in the list.
  function describeFavourites({ kinds, leaning, tokens }) {
    const line = make("p", "");
    if (leaning) {
      const [kind, of, total, pool_count, pool_total] = leaning;
      line.className = "ax-leaning";
      line.textContent = fill("leans", { kind: fill(`kind_${kind}`), count: of, total, pool_count, pool_total });
    } else {
      const list = kinds.map(([kind, number]) => fill("kind_count", { count: number, kind: fill(`kind_${kind}`) }));
      line.textContent = fill("kinds", { kinds: list.join(" · ") });
    }
    const always = tokens.filter(([, reads, seen]) => reads === seen).length;
    if (always) line.textContent += ` ${fill(always === tokens.length ? "always" : "always_some", { count: always })}`;
    return line;
  }

  // The first favourites in a sentence each; the others' sentences unfold.
  function drawContexts(tokens) {
    const lines = tokens.filter((token) => token[5]).map((token) => drawContext(token[5]));
    if (!lines.length) return [];
    const shown = make("ul", "ax-contexts");
    shown.append(...lines.slice(0, SENTENCES));
    const nodes = [make("p", "ax-small", fill("contexts")), shown];
    if (lines.length > SENTENCES) {
      const rest = make("details", "ax-contexts");
      const list = make("ul", "ax-contexts");
      list.append(...lines.slice(SENTENCES));
      rest.append(make("summary", "", fill("contexts_more", { count: count(lines.length - SENTENCES) })), list);
      nodes.push(rest);
    }
    return nodes;
  }

  function drawContext([before, text, after]) {
    const line = make("li", "");
    line.append(flat(before), make("mark", "", visible(text)), flat(after));
    return line;
  }

  const flat = (text) => text.replace(/\n/g, "↵");

  function drawToken([text, reads, seen, lift, z]) {
    const chip = make("li", "");
    const shown = visible(text);
    chip.append(make("q", "", shown), make("b", "", `${twoDigits(lift)}×`), make("span", "", count(reads)));
    if (z !== null && z > data.bound) chip.querySelector("b").append(make("sup", "", "*"));
    const values = { text: shown, lift: twoDigits(lift), count: count(reads) };
    const complete = seen !== null && z !== null;
    chip.title = complete ? fill("token", { ...values, seen: count(seen), z }) : fill("token_bare", values);
    return chip;
  }

  watch("value", readValue);
  watch("texts", draw);
  readValue();
}
