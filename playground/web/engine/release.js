// A release in the browser: its files, read and checked, and the events of a generation.
//
//   const release = await loadRelease(readFile, { wasm, onProgress });
//   for (const event of release.generate({ prompt, sampling, forced })) …
//
// README.md in this folder describes the interface; playground/generate/events.py the events.
import { openModel } from "./decoder.js";
import { Refusal, ReleaseError, oneLine } from "./errors.js";
import { Uniforms } from "./random.js";
import { checkRequest } from "./request.js";
import { cacheBytes, layerPasses, loopsOf, readShape, routingRows } from "./shape.js";
import { arrays, biasOf, changes, checkTampering, expertsPerToken, readTampering, toTexts } from "./tampering.js";
import { Tokenizer } from "./tokenizer.js";
import { readWeights, weightShapes } from "./weights.js";

export { Refusal, ReleaseError };

const MOST_SECONDS = 60; // of one generation

/**
 * Opens a release.
 *
 * @param {(name: string) => Promise<ArrayBuffer | Uint8Array | Response | Blob>} readFile Gives a file of its folder.
 * @param {object} options
 * @param {WebAssembly.Module | BufferSource} options.wasm decoder.wasm.
 * @param {boolean} [options.mtp] Read the layer of multi-token prediction too, which drafts.
 * @param {(share: number) => void} [options.onProgress] Told how much is done, from 0 to 1.
 * @param {string} [options.name] The name of the model in events and messages.
 * @param {string} [options.fingerprint] What tells this release from others of its name, as `OpenModel.fingerprint` of
 *   playground/generate/catalogue.py; events have it as "release".
 * @returns {Promise<Release>} Throws ReleaseError, with one readable line, for a release that is broken.
 */
export async function loadRelease(readFile, { wasm, mtp = false, onProgress = () => {}, name = "model", fingerprint }) {
  const json = async (file) => {
    const text = new TextDecoder().decode(await content(readFile, file));
    try {
      return JSON.parse(text);
    } catch {
      throw new ReleaseError(`${file}: it is no JSON`);
    }
  };
  const shape = readShape(await json("config.json"));
  const ends = readEnds(await json("generation_config.json"));
  const tokenizer = new Tokenizer(await json("tokenizer.json"));
  onProgress(0.1);
  const weights = await content(readFile, "model.safetensors", (share) => onProgress(0.1 + 0.7 * share));
  if (mtp && !shape.num_nextn_predict_layers) {
    throw new ReleaseError("config.json: the model has no layer of multi-token prediction");
  }
  const tensor = readWeights(weights, weightShapes(shape, mtp), `model.layers.${shape.num_hidden_layers}.`);
  const model = await openModel(wasm, shape, tensor, mtp, (share) => onProgress(0.8 + 0.2 * share));
  return new Release(name, fingerprint, shape, tokenizer, ends, model, readBias(shape, tensor));
}

// The whole of a file, whichever form `readFile` gives it.
async function content(readFile, file, onProgress = () => {}) {
  let given;
  try {
    given = await readFile(file);
  } catch (error) {
    throw new ReleaseError(`${file}: it cannot be read (${oneLine(error)})`);
  }
  if (given?.ok === false) throw new ReleaseError(`${file}: it cannot be read (status ${given.status})`);
  const total = Number(given?.headers?.get?.("content-length"));
  if (given?.body?.getReader && total > 0) return readStream(given.body, total, onProgress);
  if (given?.arrayBuffer) return given.arrayBuffer();
  if (ArrayBuffer.isView(given)) return given.buffer.slice(given.byteOffset, given.byteOffset + given.byteLength);
  if (given instanceof ArrayBuffer) return given;
  throw new ReleaseError(`${file}: it is missing`);
}

async function readStream(body, total, onProgress) {
  const chunks = [],
    reader = body.getReader();
  let size = 0;
  for (let part; !(part = await reader.read()).done;) {
    chunks.push(part.value);
    size += part.value.length;
    onProgress(Math.min(size / total, 1));
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole.buffer;
}

function readEnds(generation) {
  const ends = [generation?.eos_token_id ?? []].flat();
  if (!ends.every((id) => Number.isInteger(id) && id >= 0))
    throw new ReleaseError("generation_config.json: eos_token_id must be ids of tokens");
  return ends.sort((a, b) => a - b);
}

function readBias(shape, tensor) {
  const bias = new Map();
  for (let layer = shape.first_k_dense_replace; layer < shape.num_hidden_layers; layer++) {
    const numbers = tensor(`model.layers.${layer}.mlp.gate.e_score_correction_bias`);
    bias.set(layer + 1, [...numbers]);
  }
  return bias;
}

/** An opened release. Generations share its model, and each has a text of its own, so that several may run in turns. */
export class Release {
  constructor(name, fingerprint, shape, tokenizer, ends, model, bias) {
    Object.assign(this, { name, fingerprint, shape, tokenizer, ends, model, bias });
  }

  encode(text) {
    return this.tokenizer.encode(text);
  }

  decode(ids) {
    return this.tokenizer.decode(ids);
  }

  /**
   * Generates, and yields the events. Ending the iteration, as `break` or `return()` do, stops the generation.
   *
   * @param {{prompt: string, sampling?: object, forced?: number[], tampering?: object}} request
   * @param {object} [options]
   * @param {Record<string, string>} [options.texts] The part "errors" of a locale, for messages in its language.
   * @param {string} [options.language]
   */
  *generate(request, { texts, language, seconds = MOST_SECONDS } = {}) {
    try {
      yield* this.events(checkRequest(this.name, this.shape, request), seconds);
    } catch (error) {
      yield { kind: "error", message: error instanceof Refusal ? error.tell(texts, language) : oneLine(error) };
    }
  }

  /**
   * What the model computes when it reads the token at a position, as `inspect` of axion/inference/inspection.py.
   *
   * @param {{ids: number[], position: number, num_loops?: number, tampering?: object}} request
   * @returns `attention` [P][H][T], `affinities` [L][E], and the logits `before` and `after` the token; the former are
   *   null for the first token.
   */
  inspect({ ids, position, num_loops: asked = 0, tampering = {} }) {
    const { shape } = this,
      context = shape.max_position_embeddings;
    if (!(Number.isInteger(position) && position >= 0 && position < ids.length && position < context)) {
      throw new Error(`no token at position ${position}; the text has ${ids.length} tokens, counted from 0`);
    }
    const read = ids.slice(0, position + 1),
      wrong = read.find((id) => !(Number.isInteger(id) && id >= 0 && id < shape.vocab_size));
    if (wrong !== undefined)
      throw new Refusal("no_token", { model: this.name, token: wrong, last: shape.vocab_size - 1 });
    const loops = loopsOf(shape, asked);
    if (loops === null) throw new Refusal("loops", { name: "num_loops", model: this.name, value: asked });
    const decoder = this.decoder(loops, checkTampering(readTampering(tampering), shape));
    try {
      let before = null;
      if (position > 0) {
        decoder.read(read.slice(0, -1));
        before = decoder.logits();
      }
      return { ...decoder.readWatched(read.at(-1)), before, after: decoder.logits() };
    } finally {
      decoder.free();
    }
  }

  decoder(loops, tampering) {
    const chosen = expertsPerToken(tampering, this.shape);
    return this.model.decoder(
      loops,
      changes(tampering) ? { chosen, ...arrays(tampering, this.shape, this.bias) } : null,
    );
  }

  *events({ prompt, sampling, forced, tampering }, seconds) {
    const [ids, dropped] = this.fit(prompt, sampling.max_new_tokens);
    const decoder = this.decoder(loopsOf(this.shape, sampling.num_loops), tampering);
    const began = performance.now(),
      context = this.shape.max_position_embeddings;
    try {
      yield this.startEvent(prompt, sampling, forced, dropped, tampering);
      let created = 0,
        position = -1;
      for (const step of this.steps(decoder, ids, sampling, forced)) {
        const passed = (performance.now() - began) / 1000;
        created += Number(!step.prompt);
        position = step.i;
        yield { kind: "step", s: Math.round(passed * 1e4) / 1e4, ...step };
        if (passed > seconds) {
          yield { kind: "end", reason: "time", limit: seconds };
          return;
        }
      }
      const reason = created >= sampling.max_new_tokens ? "length" : position + 1 >= context ? "context" : "eos";
      yield { kind: "end", reason };
    } finally {
      decoder.free();
    }
  }

  // A prompt that fills the context keeps its first token, which starts every text, and as much of its end as leaves
  // room for the new tokens, but for at most half of the context.
  fit(prompt, newTokens) {
    const ids = this.encode(prompt),
      context = this.shape.max_position_embeddings;
    const unknown = ids.find((id) => id >= this.shape.vocab_size);
    if (unknown !== undefined)
      throw new ReleaseError(`tokenizer.json: it has the token ${unknown}, the model only ${this.shape.vocab_size}`);
    if (!ids.length) throw new Refusal("no_prompt");
    if (ids.length < context) return [ids, 0];
    const kept = context - Math.min(newTokens, Math.floor(context / 2));
    return [[ids[0], ...ids.slice(ids.length - kept + 1)], ids.length - kept];
  }

  startEvent(prompt, sampling, forced, dropped, tampering) {
    const { shape } = this,
      loops = loopsOf(shape, sampling.num_loops),
      rows = routingRows(shape, loops);
    const cache = cacheBytes(shape, loops),
      hasExperts = rows.length > 0;
    return {
      kind: "start",
      model: this.name,
      run: crypto.getRandomValues(new Uint32Array(1))[0].toString(16).padStart(8, "0"),
      recorded: false,
      prompt,
      sampling,
      forced,
      dropped,
      context: shape.max_position_embeddings,
      ends: this.ends,
      special: [...this.tokenizer.special].sort((a, b) => a - b),
      ...(this.fingerprint ? { release: this.fingerprint } : {}),
      layers: rows.length,
      first_layer: hasExperts ? shape.first_k_dense_replace + 1 : null,
      rows,
      passes: layerPasses(shape, loops),
      attention: shape.attention,
      all_layers: shape.num_hidden_layers,
      heads: shape.num_attention_heads,
      vocabulary: shape.vocab_size,
      groups: [shape.n_group, shape.topk_group],
      experts: hasExperts ? shape.n_routed_experts : 0,
      experts_per_token: hasExperts ? expertsPerToken(tampering, shape) : 0,
      shared_experts: hasExperts ? shape.n_shared_experts : 0,
      cache_bytes: cache.kept,
      plain_cache_bytes: cache.plain,
      tampering: toTexts(tampering),
      bias: rows.map(([layer]) =>
        biasOf(tampering, layer, this.bias.get(layer)).map((bias) => Math.round(bias * 1e4) / 1e4),
      ),
    };
  }

  // A record for each token of the prompt and each new one, as `Step.to_record` in axion/inference/stream.py has them.
  *steps(decoder, ids, sampling, forced) {
    const textOf = this.tokenizer.decodeStream(),
      names = new Map();
    const name = (id) => {
      if (!names.has(id)) names.set(id, this.decode([id]));
      return names.get(id);
    };
    const record = (position, id, prompt, p, alt) => {
      const { experts, gates, affinities, displaced } = decoder.routing(position);
      const brief = (rows) => rows.map((row) => row.map(short));
      return {
        i: position,
        id,
        t: textOf(id),
        prompt,
        p,
        alt,
        e: experts,
        g: brief(gates),
        a: brief(affinities),
        d: displaced,
      };
    };
    decoder.setSampling(sampling, ids.length + sampling.min_new_tokens, this.ends);
    decoder.read(ids);
    for (let i = 0; i < ids.length; i++) yield record(i, ids[i], true, null, []);
    const uniforms = new Uniforms(sampling.seed);
    const most = Math.min(sampling.max_new_tokens, decoder.room);
    const drawn = draws(decoder, forced, uniforms, this.model.predicts);
    for (let index = 0; index < most; index++) {
      const { value, done } = drawn.next();
      if (done) return;
      const { id, probability, ids: top, probabilities } = value;
      const alt = top.map((other, k) => [other, name(other), short(probabilities[k])]);
      yield record(ids.length + index, id, false, short(probability), alt);
    }
  }
}

// Draws token after token, the forced ones first, until the text or the context ends.
function* draws(decoder, forced, uniforms, predicts) {
  const first = decoder.length;
  const uniform = (ahead = 0) => uniforms.get(decoder.length - first + ahead);
  for (const token of forced) {
    if (!decoder.room || decoder.draw(0, token) === null) return;
    yield { id: token, ...decoder.probabilities() };
  }
  while (decoder.room) {
    if (predicts && decoder.room > 1) {
      const token = decoder.choose(uniform());
      if (token === null) return;
      const guess = decoder.guess(token, uniform(1)),
        draft = guess === null ? [token] : [token, guess];
      const numbers = draft.map((_, ahead) => uniform(ahead));
      for (const [at, found] of decoder.verify(draft, numbers).entries()) yield { id: draft[at], ...found };
    } else {
      const id = decoder.draw(uniform());
      if (id === null) return;
      yield { id, ...decoder.probabilities() };
    }
  }
}

const short = (number) => Number(number.toPrecision(4));
