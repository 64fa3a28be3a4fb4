// The page: its model, its language, and what connects the controls, the views and the Worker.

import { start as startCharts } from "../../views/charts.js";
import { start as startChat } from "../../views/chat.js";
import { start as startCompare } from "../../views/compare.js";
import { start as startExperts } from "../../views/experts.js";
import { start as startTrace } from "../../views/trace.js";
import { createPresets, createSettings } from "./controls.js";
import { readText } from "./files.js";
import { createHost } from "./host.js";
import { isComparison, isLink, readComparison, readLink } from "./links.js";
import { createModels, toLines } from "./models.js";
import { problemPrompt } from "./problem.js";
import { createTabs } from "./tabs.js";
import { chooseLanguage, fillText, recall, remember, translatePage } from "./words.js";

const VIEWS = { trace: startTrace, chat: startChat, compare: startCompare, experts: startExperts, charts: startCharts };
const ROOTS = { trace: "trace", chat: "chat", compare: "comparison", experts: "experts", charts: "about" };

async function begin() {
  const page = JSON.parse(document.getElementById("axion-page").textContent);
  const query = new URLSearchParams(location.search);
  const part = (id) => document.getElementById(id);
  const described = new Map(); // name → a promise of what content.py says of the model
  let language = chooseLanguage(page.texts, page.language, query.get("lang"), recall("axion-language"), ...navigator.languages);
  let chosen = page.models[0].name;

  const texts = () => page.texts[language];
  const names = page.models.map(({ name }) => name);
  const models = createModels({ ...page, words: () => texts().web }, showProgress);
  const hosts = Object.fromEntries(Object.keys(ROOTS).map((view) => [view, makeHost(view)]));
  const settings = { trace: createSettings(part("settings")), chat: createSettings(part("chat-settings")) };
  const sides = { a: createSettings(part("side-a")), b: createSettings(part("side-b")), both: createSettings(part("both")) };
  const presets = [makePresets("presets", "prompt"), makePresets("compare-presets", "compare-prompt")];

  function makeHost(view) {
    const own = {
      trace: { submit: runTrace, inspect: models.inspect, tamper: runTampered },
      chat: { submit: runChat },
      compare: { submit: runComparison },
      experts: { measure: () => hosts.experts.change({ absences: JSON.stringify({ error: texts().web.no_measuring }) }) },
    };
    const stop = () => models.stopOf(hosts[view]);
    const props = { ...page.views[view][language], value: "", model: chosen };
    return createHost(part(ROOTS[view]), props, { ...own[view], stop });
  }

  function makePresets(root, prompt) {
    const toProblem = (text) => problemPrompt(page.problem, text, current().chooses, language);
    return createPresets(part(root), part(prompt), toProblem);
  }

  // ------------------------------------------------------------------------------------------------- the chosen model

  let content = null; // what content.py says of the chosen model
  const current = () => content;
  const own = () => content.pages[language];

  function describe(name) {
    if (!described.has(name)) {
      const model = page.models.find((each) => each.name === name);
      described.set(name, readText(model.content).then(JSON.parse));
    }
    return described.get(name);
  }

  // Shows what is known of a model, and loads it.
  async function choose(name) {
    chosen = name;
    part("model").value = part("compare-model-a").value = name;
    showProblem("");
    models.open(name).catch((error) => chosen === name && showProblem(error.message));
    const found = await describe(name);
    if (chosen !== name) return;
    content = found;
    for (const each of [settings.trace, settings.chat, sides.a]) each.follow(content);
    hosts.chat.change({ value: content.chat });
    hosts.experts.change({ value: content.experts });
    showPages();
  }

  // The parts that the page's builder has rendered in every language.
  function showPages() {
    const { facts, about, chapters } = own();
    for (const each of presets) each.follow(content, own());
    part("facts").innerHTML = facts;
    part("about").innerHTML = about;
    hosts.charts.change({ value: about });
    part("contents").innerHTML = page.contents[language];
    part("chapters").replaceChildren(...chapters.map(makeCard));
    tabs.follow();
  }

  function makeCard([anchor, html]) {
    const card = document.createElement("div");
    card.className = "block ax-doc-card";
    card.id = `doc-${anchor}`;
    card.innerHTML = `<div class="prose"><div class="md">${html}</div></div>`;
    return card;
  }

  function showProgress(progress) {
    part("loading").hidden = !progress;
    if (!progress) return;
    part("loading").querySelector("span").textContent = fillText(texts().web.loading, language, progress);
    part("loading").querySelector("progress").value = progress.share;
  }

  function showProblem(message) {
    part("problem").hidden = !message;
    part("problem").textContent = message;
  }

  // --------------------------------------------------------------------------------------------------------- generating

  const told = () => ({ language, texts: texts().errors });

  function runTrace(asked) {
    models.generate(hosts.trace, [asked.model], (failed) => ({ kind: "trace", ...toRun(asked, failed), told: told() }));
  }

  // The same generation with a changed model, which the view draws beside the one that it shows.
  async function runTampered(asked) {
    const isChanged = Object.keys(asked.tampering).length > 0;
    const build = (failed) => ({ kind: "trace", ...toRun(asked, failed), told: told() });
    hosts.trace.change({ tampered: isChanged ? await models.collect([asked.model], build) : "" });
  }

  // The Worker checks the request; `failed` says why models could not be opened.
  const toRun = ({ model, prompt, sampling, forced, tampering }, failed) => {
    return { model, request: { prompt, sampling, forced, tampering }, failed: failed.get(model) };
  };

  function runComparison({ a, b }) {
    models.generate(hosts.compare, [a.model, b.model], (failed) => {
      return { kind: "compare", sides: { a: toRun(a, failed), b: toRun(b, failed) }, told: told() };
    });
  }

  // What the controls of a comparison ask of a side.
  function readSide(side) {
    const sampling = { ...sides.both.read(), ...sides[side].read() };
    return { model: part(`compare-model-${side}`).value, prompt: part("compare-prompt").value, sampling };
  }

  // Each further attempt takes the next seed.
  function runChat({ turn, attempt, messages }) {
    const sampling = settings.chat.read();
    sampling.seed = (sampling.seed + attempt) % (page.highestSeed + 1);
    const asked = { model: chosen, sampling };
    const question = ask(messages);
    models.generate(hosts.chat, [chosen], (failed) => ({ kind: "answer", turn, question, ...toRun(asked, failed), told: told() }));
  }

  // What the model reads: the conversation, or the last question in the form of its training data.
  function ask(messages) {
    const asked = messages.at(-1).content;
    const prompt = content.conversation || content.of_text ? asked : problemPrompt(page.problem, asked, content.chooses);
    return { prompt, messages, form: content.conversation, context: content.context };
  }

  // ------------------------------------------------------------------------------------------------- language and theme

  function speak(code) {
    language = code;
    remember("axion-language", code);
    translatePage(texts(), language);
    part("language").value = code;
    for (const [view, host] of Object.entries(hosts)) host.change(page.views[view][code]);
    if (content) showPages();
  }

  function switchTheme() {
    remember("axion-theme", document.documentElement.classList.toggle("dark") ? "dark" : "light");
  }

  // ---------------------------------------------------------------------------------------------------------- beginning

  function listen() {
    const generate = () => runTrace({ model: chosen, prompt: part("prompt").value, sampling: settings.trace.read(), forced: [] });
    part("settings").addEventListener("input", () => {
      const read = settings.trace.read();
      if (Object.values(read).every((value) => value !== "")) hosts.trace.change({ settings: read });
    });
    part("generate").addEventListener("click", generate);
    part("prompt").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      generate();
    });
    part("stop").addEventListener("click", () => models.stopOf(hosts.trace));
    part("compare").addEventListener("click", () => runComparison({ a: readSide("a"), b: readSide("b") }));
    part("compare-stop").addEventListener("click", () => models.stopOf(hosts.compare));
    part("swap").addEventListener("click", swap);
    part("compare-model-b").addEventListener("change", ({ target }) => describe(target.value).then(sides.b.follow));
    part("compare-model-a").addEventListener("change", ({ target }) => describe(target.value).then(sides.a.follow));
    part("language").addEventListener("change", ({ target }) => speak(target.value));
    part("theme").addEventListener("click", switchTheme);
    part("model").addEventListener("change", async ({ target: { value } }) => {
      models.stop();
      await choose(value).catch((error) => showProblem(error.message));
      if (chosen === value) hosts.trace.change({ model: chosen, value: own().example });
    });
  }

  function swap() {
    const [a, b] = [part("compare-model-a"), part("compare-model-b")];
    [a.value, b.value] = [b.value, a.value];
    const [first, second] = [sides.a.read(), sides.b.read()];
    sides.a.write(second);
    sides.b.write(first);
    for (const side of ["a", "b"]) describe(part(`compare-model-${side}`).value).then(sides[side].follow);
  }

  // The first view: the recorded example with its settings, or the generation that the address asks for.
  async function open() {
    const linked = isLink(query) ? readAddress() : null;
    await choose(linked?.model ?? chosen);
    const { prompt, settings: first } = own().opening;
    part("prompt").value = linked?.prompt ?? prompt;
    settings.trace.write(linked ? { ...page.defaults, ...linked.sampling } : first);
    settings.chat.write(content.chat_settings);
    part("compare-prompt").value = own().comparison;
    hosts.trace.change({ model: chosen, value: linked ? toLines([linked]) : own().example });
    if (isComparison(query)) await openComparison();
  }

  const parameters = { settings: Object.keys(page.defaults), tampering: page.tampering };

  // The event that has the view ask for what the address says, or that says what is wrong with it.
  function readAddress() {
    try {
      return { kind: "open", ...readLink(query, parameters, names) };
    } catch (error) {
      return { kind: "error", of: "link", message: error.tell(texts().errors, language) };
    }
  }

  async function openComparison() {
    try {
      const asked = readComparison(query, parameters, names);
      part("compare-prompt").value = asked.a.prompt;
      sides.both.write({ ...page.compare.a, ...asked.a.sampling });
      for (const side of ["a", "b"]) {
        part(`compare-model-${side}`).value = asked[side].model;
        sides[side].follow(await describe(asked[side].model));
        sides[side].write({ ...page.defaults, ...asked[side].sampling });
      }
      hosts.compare.change({ value: toLines([{ kind: "open", ...asked }]) });
    } catch (error) {
      const message = fillText(page.views.trace[language].texts.bad_link, language, { message: error.tell?.(texts().errors, language) ?? error.message });
      hosts.compare.change({ value: toLines(["a", "b"].map((side) => ({ side, kind: "error", message }))) });
    }
  }

  const tabs = createTabs(part("tabs"));
  document.documentElement.classList.toggle("dark", isDark());
  translatePage(texts(), language);
  part("language").value = language;
  for (const [side, own] of Object.entries(page.compare)) sides[side].write(own);
  sides.both.write(page.compare.a);
  for (const [view, start] of Object.entries(VIEWS)) start(hosts[view]);
  listen();
  if (page.offline && location.protocol.startsWith("http")) navigator.serviceWorker?.register(page.offline).catch(() => {});
  try {
    await open();
  } catch (error) {
    showProblem(error.message);
  }
}

const isDark = () => (recall("axion-theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

begin();
