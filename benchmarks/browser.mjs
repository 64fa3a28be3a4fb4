// The node side of benchmarks/browser.py: opens a release, then measures a round for every line on standard input.
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { loadRelease } from "../playground/web/engine/release.js";

const PROMPT = "# Pergunta:\nQuanto é 27 + 48?\n--\n# Resposta:\n";
const GREEDY = { temperature: 0, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1 };

const [folder, wasmFile, tokens] = process.argv.slice(2);
const say = (values) => process.stdout.write(`${JSON.stringify(values)}\n`);

/** Seconds of processor time. */
function seconds(work) {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

const began = performance.now();
const release = await loadRelease((name) => readFile(`${folder}/${name}`), { wasm: await readFile(wasmFile) });
const loaded = performance.now();
for (const event of release.generate({ prompt: PROMPT, sampling: { max_new_tokens: 1 } }))
  if (event.prompt === false) break;
say({
  load: (loaded - began) / 1000,
  first: (performance.now() - began) / 1000,
  memory: release.model.buffer.byteLength,
});

const decoder = release.model.decoder(),
  ids = release.encode(PROMPT),
  context = release.shape.max_position_embeddings;
const window = Array.from({ length: context }, (_, at) => ids[at % ids.length]),
  count = Math.min(Number(tokens), context - ids.length);
for await (const _ of createInterface({ input: process.stdin })) {
  decoder.rewind(0);
  decoder.setSampling(GREEDY, context, release.ends);
  decoder.read(ids);
  const write = seconds(() => {
    for (let i = 0; i < count; i++) decoder.draw(0);
  });
  decoder.rewind(0);
  const read = seconds(() => decoder.read(window));
  const stream = seconds(() => {
    const request = { prompt: PROMPT, sampling: { max_new_tokens: count, min_new_tokens: count } };
    for (const event of release.generate(request)) JSON.stringify(event);
  });
  say({ write: count / write, read: context / read, stream: count / stream });
}
