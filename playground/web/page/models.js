// The models, which a Worker opens and runs: this file starts it, hands it their files, and gives its lines to the views.

import { readFile, readText } from "./files.js";

/**
 * @param {object} page The page's data: `worker` and `decoder` name files, and `models` lists the models with theirs; `words`
 *   gives the page's texts.
 * @param {(progress: {model: string, share: number} | null) => void} showProgress
 */
export function createModels(page, showProgress) {
  const opened = new Map(); // name → {ready: a promise, go, fail}
  let running = null; // {number, host, lines}: the generation that runs
  const inspections = new Map(); // number → who waits for the answer
  let count = 0;
  const worker = start();

  async function start() {
    const [source, decoder] = await Promise.all([readText(page.worker), readFile(page.decoder)]);
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const made = new Worker(address);
    URL.revokeObjectURL(address);
    made.onmessage = ({ data }) => take(data);
    made.onerror = (event) => fail(event.message || "the worker could not be started");
    made.postMessage({ decoder });
    return made;
  }

  function take({ open, run, inspect }) {
    if (open) settle(open);
    if (run) show(run);
    if (inspect) {
      inspections.get(inspect.number)(inspect.answer);
      inspections.delete(inspect.number);
    }
  }

  function settle({ model, failed }) {
    showProgress(null);
    const { go, fail } = opened.get(model);
    if (failed) {
      opened.delete(model); // the next choice tries again
      fail(new Error(failed));
    } else go();
  }

  function show({ number, lines, done }) {
    if (number !== running?.number) return; // late lines of a generation that was stopped
    const { host } = running;
    running.lines += lines;
    if (host.busy === "waiting") host.setBusy("running");
    host.change({ value: running.lines });
    if (done) end(running);
  }

  // A view reads its value in the next animation frame, and is idle only after that.
  function end(ended) {
    running = null;
    const rest = () => running?.host !== ended.host && ended.host.busy === "running" && ended.host.setBusy("idle");
    requestAnimationFrame(() => requestAnimationFrame(rest));
  }

  function fail(message) {
    for (const [, { fail: reject }] of opened) reject(new Error(message));
    if (running) show({ number: running.number, lines: toLines([{ side: "a", kind: "error", message }]), done: true });
  }

  /** Loads a model, once. Rejects with an Error that says what is wrong with its files. */
  function open(name) {
    if (!opened.has(name)) {
      const entry = {};
      entry.ready = new Promise((go, reject) => Object.assign(entry, { go, fail: reject }));
      entry.ready.catch(() => {}); // each caller hears of it
      opened.set(name, entry);
      send(name).catch((error) => settle({ model: name, failed: error.message }));
    }
    return opened.get(name).ready;
  }

  async function send(name) {
    const { files, start } = page.models.find((model) => model.name === name);
    const total = Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0);
    const sources = {};
    let loaded = 0;
    for (const [file, { path, bytes, sha256 }] of Object.entries(files)) {
      const report = (count) => showProgress({ model: name, share: (loaded + count) / total });
      sources[file] = { content: await readFile(path, report), bytes, sha256 };
      loaded += bytes;
    }
    const contents = Object.values(sources).map(({ content }) => content);
    (await worker).postMessage({ open: { model: name, sources, start, words: page.words() } }, contents);
  }

  /**
   * Runs a generation whose lines become the value of a host's view; another one that runs is stopped.
   *
   * @param {string[]} names The models that it needs.
   * @param {(failed: Map<string, string>) => object} build The Worker's request, from what is wrong with models by name.
   */
  async function generate(host, names, build) {
    stop();
    const own = (running = { number: ++count, host, lines: "" });
    host.setBusy("waiting");
    try {
      const failed = new Map();
      for (const name of new Set(names)) await open(name).catch((error) => failed.set(name, error.message));
      if (running === own) (await worker).postMessage({ run: { number: own.number, ...build(failed) } });
    } catch (error) {
      show({ number: own.number, lines: toLines([{ side: "a", kind: "error", message: error.message }]), done: true });
    }
  }

  /** The lines of a generation that no view shows while it runs; none where it was stopped. */
  function collect(names, build) {
    return new Promise((go) => {
      const host = {
        busy: "idle",
        lines: "",
        change: ({ value }) => (host.lines = value),
        setBusy(state) {
          host.busy = state;
          if (state === "idle") go(host.lines);
          if (state === "stopped") go("");
        },
      };
      generate(host, names, build);
    });
  }

  /** What a model computes when it reads one token; see `inspect` of Host in playground/views/toolkit.js. */
  async function inspect(asked) {
    await open(asked.model);
    const made = await worker;
    return new Promise((go) => {
      const number = ++count;
      inspections.set(number, go);
      made.postMessage({ inspect: { number, asked } });
    });
  }

  /** Ends the generation that runs: what the Worker still sends of it is dropped. */
  function stop() {
    if (!running) return;
    const { host } = running;
    running = null;
    worker.then((made) => made.postMessage({ stop: true }));
    host.setBusy("stopped");
  }

  /** Ends the generation of this host's view, if it is the one that runs. */
  function stopOf(host) {
    if (running?.host === host) stop();
  }

  return { open, generate, collect, inspect, stop, stopOf };
}

/** Events as the text that views read. */
export const toLines = (events) => events.map((event) => `${JSON.stringify(event)}\n`).join("");
