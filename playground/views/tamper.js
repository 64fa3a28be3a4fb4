// Tampering with the model of the shown trace: experts are taken away, always used or weighed differently, and attention
// heads are taken away. The changed model's events come as the prop `tampered`, after the event "tamper" asked for them; they
// are drawn beside the original's, as a comparison. What each change means is in axion/tampering.py.

import { createComparison } from "./comparison.js";
import { ARROWS } from "./figures.js";
import { nameExpert, paint, PALETTE } from "./routing.js";
import { exportTrace, tabulate } from "./share.js";
import { make, readLines } from "./toolkit.js";

const TURN = { "": "mute", mute: "force", force: "" }; // what a click on an expert makes of it
const SCALES = { min: 0, max: 2, step: 0.1 };
const BIASES = { min: -0.5, max: 0.5, step: 0.01 };

/** No change; names are those of experts and heads, such as L2.E4 and L1.H3. */
const unchanged = () => ({ experts: new Map(), heads: new Set(), scales: new Map(), biases: new Map(), top: "", biasOff: false });

export function createTamper(trace) {
  const { part, fill, plain } = trace.toolkit;
  let changes = unchanged();
  let model = ""; // whose experts and heads these are
  let run = null; // the original's start event
  let original = []; // the original's events as they came, those that wait to be drawn too
  let ended = false; // whether they are complete
  let pending = false; // whether the changed model's events were asked for and none came yet
  let result = []; // the changed model's events
  let inner = null; // the host of the comparison, once there was one

  // ---------------------------------------------------------------------------------------------- changes and their texts

  /** Name → text of what is changed, as links and requests have it. */
  function toTexts() {
    const { experts, heads, scales, biases, top, biasOff } = changes;
    const those = (state) => sorted([...experts].filter(([, own]) => own === state).map(([name]) => name)).join();
    const assigned = (numbers) => sorted([...numbers].map(([name, number]) => `${name}=${number}`));
    const texts = {
      mute: those("mute"),
      force: those("force"),
      top_experts: top,
      bias: [...(biasOff ? ["off"] : []), ...assigned(biases)].join(),
      scale: assigned(scales).join(),
      mute_head: sorted([...heads]).join(),
    };
    return Object.fromEntries(Object.entries(texts).filter(([, text]) => text));
  }

  function fromTexts({ mute = "", force = "", top_experts: top = "", bias = "", scale = "", mute_head: heads = "" }) {
    const words = (text) => text.split(",").filter(Boolean);
    const numbers = (list) => new Map(list.map((word) => word.split("=")).map(([name, number]) => [name, Number(number)]));
    const experts = new Map([...words(mute).map((name) => [name, "mute"]), ...words(force).map((name) => [name, "force"])]);
    const assigned = words(bias).filter((word) => word !== "off");
    const biasOff = words(bias).includes("off");
    return { experts, heads: new Set(words(heads)), scales: numbers(words(scale)), biases: numbers(assigned), top, biasOff };
  }

  const isChanged = () => Object.keys(toTexts()).length > 0;

  /** Takes the changes of a link. */
  function set(texts, of) {
    changes = fromTexts(texts);
    model = of;
    if (isChanged()) part("tamper").open = true;
  }

  /** What is changed, in words. */
  function describe(texts) {
    const { experts, heads, scales, biases, top, biasOff } = fromTexts(texts);
    const those = (state) => [...experts].filter(([, own]) => own === state).map(([name]) => name).join(", ");
    const parts = [];
    if (those("mute")) parts.push(fill("change_mute", { names: those("mute") }));
    if (those("force")) parts.push(fill("change_force", { names: those("force") }));
    if (top) parts.push(fill(top === "1" ? "change_top_one" : "change_top", { count: top }));
    if (biasOff) parts.push(fill("change_bias_off"));
    for (const [name, value] of biases) parts.push(fill("change_bias", { name, value }));
    for (const [name, value] of scales) parts.push(fill("change_scale", { name, value }));
    if (heads.size) parts.push(fill("change_head", { names: [...heads].join(", ") }));
    return parts.join(" · ");
  }

  // ------------------------------------------------------------------------------------------------------ both generations

  /** Takes the original's events as they come. */
  function receive(events) {
    for (const event of events) {
      if (event.kind === "start") begin(event);
      if (!run || ended) continue;
      original.push(event);
      if (event.kind !== "end") continue;
      ended = true;
      if (isChanged()) ask();
    }
    drawPanel();
  }

  function begin(event) {
    if (event.model !== model) changes = unchanged();
    model = event.model;
    run = event;
    build();
  }

  /** Forgets both generations; the changes stay for the next one of this model. */
  function clear() {
    run = null;
    original = [];
    ended = false;
    forget();
  }

  function forget() {
    result = [];
    pending = false;
    part("tamper-error").hidden = part("tampered").hidden = true;
    inner?.show("");
  }

  // A change that is taken back is asked for too, so that the host knows of it.
  function ask() {
    const { prompt, sampling, forced } = run;
    pending = isChanged();
    if (!pending) forget();
    trace.host.trigger("tamper", { model, prompt, sampling, forced, tampering: toTexts() });
    drawPanel();
  }

  function change() {
    if (ended) ask();
    else drawPanel();
  }

  function readResult() {
    if (!isChanged() || !ended) return;
    const { events } = readLines(trace.host.props.tampered || "", 0);
    if (!events.length) return;
    result = events;
    pending = false;
    const failure = events.find(({ kind }) => kind === "error");
    part("tamper-error").hidden = !failure;
    part("tamper-error").textContent = failure?.message ?? "";
    part("tampered").hidden = events[0].kind !== "start";
    inner ??= openComparison();
    const lines = [...original.map((event) => ({ ...event, side: "a" })), ...events.map((event) => ({ ...event, side: "b" }))];
    inner.show(lines.map((event) => `${JSON.stringify(event)}\n`).join(""));
    drawPanel();
  }

  // ---------------------------------------------------------------------------------------------------------- the controls

  function build() {
    const experts = [...new Set(run.rows.map(([layer]) => layer))];
    const layers = Array.from({ length: run.all_layers ?? 0 }, (_, index) => index + 1);
    buildGrid("tamper-experts", experts, "E", run.experts);
    buildGrid("tamper-heads", layers, "H", run.heads ?? 0);
    const own = make("option", "", "");
    own.value = "";
    const counts = Array.from({ length: run.experts }, (_, index) => make("option", "", index + 1));
    part("tamper-top").replaceChildren(own, ...counts);
    for (const name of ["experts-of", "choices"]) part(`tamper-${name}`).hidden = !run.layers;
    part("tamper-heads-of").hidden = !layers.length;
    part("tamper").classList.toggle("av-many", run.experts > PALETTE);
  }

  function buildGrid(name, layers, kind, count) {
    const grid = part(name);
    grid.style.setProperty("--count", count);
    const rows = layers.map((layer) => [make("span", "at-layer", `L${layer}`), ...makeCells(layer, kind, count)]);
    grid.replaceChildren(...rows.flat());
    const first = grid.querySelector("button");
    if (first) first.tabIndex = 0;
  }

  function makeCells(layer, kind, count) {
    return Array.from({ length: count }, (_, index) => {
      const cell = make("button", "at-cell", `${kind}${index + 1}`);
      cell.type = "button";
      cell.tabIndex = -1;
      cell.dataset.name = `L${layer}.${kind}${index + 1}`;
      if (kind === "E") paint(cell, index, count);
      return cell;
    });
  }

  function toggle(name, kind) {
    if (kind === "E") turn(name, TURN[stateOf(name)]);
    else if (!changes.heads.delete(name)) changes.heads.add(name);
    change();
  }

  function turn(name, state) {
    if (state) changes.experts.set(name, state);
    else changes.experts.delete(name);
  }

  const stateOf = (name) => changes.experts.get(name) ?? (changes.heads.has(name) ? "mute" : "");

  function listen(name, kind) {
    const grid = part(name);
    grid.addEventListener("click", ({ target }) => target.dataset.name && toggle(target.dataset.name, kind));
    grid.addEventListener("keydown", (event) => {
      if (!(event.key in ARROWS)) return;
      const cells = [...grid.querySelectorAll("button")];
      const count = Number(grid.style.getPropertyValue("--count"));
      const [down, right] = ARROWS[event.key];
      const at = cells.indexOf(event.target);
      const column = (at % count) + right;
      const next = column >= 0 && column < count ? cells[at + right + down * count] : null;
      event.preventDefault();
      if (!next) return;
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }

  function drawPanel() {
    if (!run) return;
    for (const cell of part("tamper").querySelectorAll(".at-cell")) drawCell(cell);
    const { top, biasOff } = changes;
    part("tamper-top").options[0].textContent = fill("tamper_top_own", { count: plain(run.experts_per_token) });
    part("tamper-top").value = top;
    part("tamper-bias").checked = biasOff;
    const texts = toTexts();
    part("tamper-statement").hidden = !isChanged();
    part("tamper-changes").textContent = fill("tampered", { changes: describe(texts) });
    part("tamper-waiting").hidden = !pending && ended;
  }

  function drawCell(cell) {
    const { name } = cell.dataset;
    const state = stateOf(name);
    const scale = changes.scales.get(name);
    cell.dataset.state = state;
    const key = { "": "tamper_as_is", mute: "tamper_mute", force: "tamper_force" }[state];
    const label = [fill(key, { name }), ...(scale === undefined ? [] : [fill("change_scale", { name, value: scale })])].join(", ");
    cell.setAttribute("aria-label", label);
    cell.title = label;
  }

  listen("tamper-experts", "E");
  listen("tamper-heads", "H");
  part("tamper-top").addEventListener("change", ({ target }) => {
    changes.top = target.value;
    change();
  });
  part("tamper-bias").addEventListener("change", ({ target }) => {
    changes.biasOff = target.checked;
    change();
  });
  part("tamper-reset").addEventListener("click", () => {
    changes = unchanged();
    change();
    part("tamper").querySelector("summary").focus();
  });

  // ------------------------------------------------------------------------------------------- one expert, in the popover

  /** The controls of one of the experts that read a token. */
  function makeActions(step) {
    const list = make("select", "at-choose");
    list.setAttribute("aria-label", fill("tamper_expert"));
    const own = new Map(); // expert → its balancing bias
    step.e.forEach((experts, row) =>
      experts.forEach((expert) => own.set(nameExpert(run, row, expert), run.bias[row]?.[expert] ?? 0)),
    );
    list.append(...[...own.keys()].map((name) => make("option", "", name)));
    const box = make("div", "at-actions");
    const mute = makeToggle(fill("tamper_take"), "mute");
    const force = makeToggle(fill("tamper_always"), "force");
    const scale = makeSlider(fill("tamper_scale"), SCALES, (value) => assign(changes.scales, value, 1));
    const bias = makeSlider(fill("tamper_bias"), BIASES, (value) => assign(changes.biases, value, own.get(list.value)));

    function assign(numbers, value, usual) {
      if (value === usual) numbers.delete(list.value);
      else numbers.set(list.value, value);
      act();
    }

    function makeToggle(text, state) {
      const button = make("button", "", text);
      button.type = "button";
      button.addEventListener("click", () => {
        turn(list.value, stateOf(list.value) === state ? "" : state);
        act();
      });
      return button;
    }

    function act() {
      part("tamper").open = true;
      draw();
      change();
    }

    function draw() {
      const name = list.value;
      for (const [button, state] of [[mute, "mute"], [force, "force"]]) button.setAttribute("aria-pressed", stateOf(name) === state);
      scale.show(changes.scales.get(name) ?? 1);
      bias.show(changes.biases.get(name) ?? (changes.biasOff ? 0 : own.get(name)));
    }

    list.addEventListener("change", draw);
    box.append(list, mute, force, scale.label, bias.label);
    draw();
    return box;
  }

  function makeSlider(text, limits, choose) {
    const label = make("label", "", text);
    const slider = make("input", "");
    const shown = make("output", "");
    Object.assign(slider, { type: "range", ...limits });
    slider.addEventListener("input", () => (shown.textContent = plain(Number(slider.value))));
    slider.addEventListener("change", () => choose(Number(slider.value)));
    label.append(slider, shown);
    const show = (value) => {
      slider.value = value;
      shown.textContent = plain(Number(value.toFixed(3)));
    };
    return { label, show };
  }

  // ------------------------------------------------------------------------------------------------------ the comparison

  // Only where it is needed, since its parts have the names of a trace's.
  function openComparison() {
    part("tampered").append(part("tampered-view").content.cloneNode(true));
    const names = () => ({ a: fill("side_original"), b: fill("side_tampered") });
    const opened = innerHost(part("tampered"), trace.host.props, names);
    createComparison(opened.host);
    part("tampered").querySelector("[data-part=share]").remove(); // the trace's own buttons share both
    return opened;
  }

  trace.host.watch("tampered", readResult);

  function drawTexts() {
    inner?.drawTexts();
    drawPanel();
  }

  // ------------------------------------------------------------------------------------------------------------- exports

  // What the changed model generated as {run, tokens, outcome}; null where there is nothing.
  function shown() {
    const [start, ...rest] = isChanged() ? result : [];
    if (start?.kind !== "start") return null;
    const tokens = rest.filter(({ kind }) => kind === "step").map((step) => ({ step }));
    return { run: start, tokens, outcome: rest.find(({ kind }) => kind === "end") ?? null };
  }

  /** {tampered: what the changed model generated}; its start says what was changed. */
  function exportResult() {
    const changed = shown();
    return changed ? { tampered: exportTrace(changed.run, changed.tokens, changed.outcome) } : {};
  }

  /** Both generations as one table, whose last column says what was changed. */
  function tabulateBoth(of, tokens) {
    const changed = shown();
    if (!changed) return tabulate(of, tokens);
    const ranks = Math.max(...[of, changed.run].map((each) => (each.layers ? each.experts_per_token : 0)));
    const note = Object.entries(changed.run.tampering).map((pair) => pair.join("=")).join(" ");
    const [head, ...rows] = tabulate(of, tokens, ranks);
    const [, ...more] = tabulate(changed.run, changed.tokens, ranks);
    return [[...head, "tampering"], ...rows.map((row) => [...row, ""]), ...more.map((row) => [...row, note])];
  }

  return { receive, clear, set, toTexts, makeActions, drawTexts, exportResult, tabulate: tabulateBoth };
}

// By layer and number.
function sorted(names) {
  const key = (name) => name.match(/\d+/g).slice(0, 2).map(Number);
  return names.sort((one, other) => key(one)[0] - key(other)[0] || key(one)[1] - key(other)[1]);
}

// A host for the view of a comparison inside of this one. It asks for nothing.
function innerHost(element, props, names) {
  const watchers = [];
  let value = "";
  const own = {
    id: () => "axion-tampered",
    names,
    value: () => value,
  };
  const host = {
    element,
    props: new Proxy(props, { get: (outer, name) => (name in own ? own[name]() : outer[name]) }),
    watch: (watched, callback) => watchers.push([[watched].flat(), callback]),
    trigger() {},
    busy: "idle",
  };
  const tell = (name) => watchers.forEach(([watched, callback]) => watched.includes(name) && callback());
  return {
    host,
    show(text) {
      value = text;
      tell("value");
    },
    drawTexts: () => tell("texts"),
  };
}
