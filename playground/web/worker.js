// The models in a Worker: opens releases and generates, and posts the lines that the views read. In: {decoder} once, then
// {open}, {run}, {inspect} and {stop}. Out: {open}, {run} and {inspect}.

import { inspectToken } from "./engine/inspection.js";
import { loadRelease } from "./engine/release.js";
import { answerEvents, comparisonEvents, traceEvents } from "./generations.js";

const UPDATE_MS = 16; // between two messages with lines
const KINDS = { trace: traceEvents, compare: comparisonEvents, answer: answerEvents };

const releases = new Map();
let decoder = null; // a promise of the compiled module
let wanted = 0; // the number of the generation that may go on

async function open({ model, sources, start, words }) {
  try {
    const read = async (name) => {
      const source = sources[name];
      if (!source) throw new Error(words.missing);
      if (!(await isIntact(source))) throw new Error(words.damaged);
      return source.content;
    };
    const release = await loadRelease(read, { wasm: await decoder, name: model });
    releases.set(model, Object.assign(release, { start }));
    postMessage({ open: { model } });
  } catch (error) {
    postMessage({ open: { model, failed: `${model}: ${error.message ?? error}` } });
  }
}

// Whether a file is the one that the page was built with. Browsers lack crypto.subtle over plain http.
async function isIntact({ content, bytes, sha256 }) {
  if (content.byteLength !== bytes) return false;
  if (!self.crypto?.subtle) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}

async function run({ number, kind, told, ...asked }) {
  wanted = number;
  let lines = "";
  let sent = performance.now();
  for (const event of KINDS[kind](releases, asked, told)) {
    lines += `${JSON.stringify(event)}\n`;
    if (performance.now() - sent < UPDATE_MS) continue;
    postMessage({ run: { number, lines, done: false } });
    lines = "";
    await breath();
    if (number !== wanted) return;
    sent = performance.now();
  }
  postMessage({ run: { number, lines, done: true } });
}

function inspect({ number, asked }) {
  let answer;
  try {
    answer = inspectToken(releases.get(asked.model), asked);
  } catch (error) {
    answer = { error: String(error.message ?? error) };
  }
  postMessage({ inspect: { number, answer } });
}

// Lets messages in, such as that to stop. A timer would wait four milliseconds.
function breath() {
  const { port1, port2 } = new MessageChannel();
  const heard = new Promise((go) => (port1.onmessage = go));
  port2.postMessage(null);
  return heard.then(() => port1.close());
}

onmessage = ({ data }) => {
  if (data.decoder) decoder = WebAssembly.compile(data.decoder);
  else if (data.open) open(data.open);
  else if (data.run) run(data.run);
  else if (data.inspect) inspect(data.inspect);
  else if (data.stop) wanted = 0;
};
