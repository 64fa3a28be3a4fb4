// The compiled decoder (decoder.wasm) and one text that it reads and writes: `NativeDecoder` of axion/kernels/decoder.py.
import { ReleaseError, oneLine } from "./errors.js";
import { rotaryAngles } from "./rotary.js";
import { depth, dimensions, routingRows } from "./shape.js";
import { parts } from "./weights.js";

const ALTERNATIVES = 5;
const DRAWN = 1 + 2 * ALTERNATIVES; // numbers of the struct Drawn in csrc/decoding/decoder_state.h
const LINE = 64; // bytes of a cache line
const MOST_ENDS = 64;
const MOST_CACHE = 2 ** 31; // bytes

const STUBS = { fd_close: () => 8, fd_seek: () => 8, fd_write: () => 8, proc_exit: () => {} };

/**
 * A model in a WebAssembly instance of its own.
 *
 * @param {WebAssembly.Module | BufferSource} code decoder.wasm.
 * @param {object} shape As `readShape` returns it.
 * @param {(name: string, from?: number, count?: number) => Float32Array} tensor The weights; see `readWeights`.
 * @param {boolean} predicts Whether the layer of multi-token prediction is packed, too.
 * @param {(share: number) => void} onProgress
 */
export async function openModel(code, shape, tensor, predicts = false, onProgress = () => {}) {
  checkCache(shape);
  const module = code instanceof WebAssembly.Module ? code : await WebAssembly.compile(code);
  const { exports: wasm } = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: STUBS });
  wasm._initialize();
  return guard(() => {
    const model = new Model(wasm, shape, predicts);
    model.pack(tensor, onProgress);
    return model;
  });
}

// A size that wants more than a page can have is refused before anything is allocated.
function checkCache(shape) {
  const rows =
    shape.attention === "gqa"
      ? 2 * shape.num_key_value_heads * shape.head_dim
      : shape.kv_lora_rank + shape.qk_rope_head_dim;
  const bytes = 4 * shape.max_position_embeddings * (depth(shape) * rows + shape.hidden_size);
  if (bytes > MOST_CACHE)
    throw new ReleaseError(
      `config.json: a context of ${shape.max_position_embeddings} tokens needs more memory than a page can have`,
    );
}

/** A release for which the compiled code finds no memory is told like a broken one. */
async function guard(work) {
  try {
    return await work();
  } catch (error) {
    throw error instanceof WebAssembly.RuntimeError ? new ReleaseError(oneLine(error)) : error;
  }
}

class Model {
  constructor(wasm, shape, predicts) {
    Object.assign(this, { wasm, shape, predicts });
    const values = dimensions(shape);
    const names = this.text(wasm.axion_decoder_dimension_names()).trim().split(" ");
    const given = this.allocate(8 * names.length);
    new Float64Array(this.buffer, given, names.length).set(names.map((name) => Number(values[name])));
    wasm.axion_decoder_set_dimensions(given);
    wasm.free(given);
    const { cos, sin } = rotaryAngles(shape);
    [this.cos, this.sin] = [this.keep(cos), this.keep(sin)];
  }

  get buffer() {
    return this.wasm.memory.buffer; // another one after the memory has grown
  }

  allocate(bytes) {
    const at = this.wasm.malloc(bytes + LINE) >>> 0;
    if (!at) throw new ReleaseError("there is not enough memory for this model");
    return at;
  }

  keep(numbers) {
    const at = this.allocate(numbers.byteLength);
    new Float32Array(this.buffer, at, numbers.length).set(numbers);
    return at;
  }

  text(at) {
    const bytes = new Uint8Array(this.buffer, at);
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  }

  pack(tensor, onProgress) {
    const { wasm } = this;
    this.weights = wasm.axion_decoder_weights_new(Number(this.predicts)) >>> 0;
    if (!this.weights) throw new ReleaseError("there is not enough memory for this model");
    const count = wasm.axion_decoder_parts(this.weights);
    let part = 0;
    for (const tensors of parts(this.shape, tensor, this.predicts)) {
      if (!this.packPart(part++, tensors))
        throw new ReleaseError("model.safetensors: the weights do not fit config.json");
      onProgress(part / count);
    }
    if (part !== count) throw new ReleaseError("model.safetensors: the weights do not fit config.json");
  }

  packPart(part, tensors) {
    const { wasm } = this,
      taken = tensors.map((numbers) => this.keep(numbers));
    const pointers = this.allocate(4 * taken.length),
      sizes = this.allocate(8 * taken.length);
    new Uint32Array(this.buffer, pointers, taken.length).set(taken);
    new BigInt64Array(this.buffer, sizes, taken.length).set(tensors.map((numbers) => BigInt(numbers.length)));
    const fits = wasm.axion_decoder_pack(this.weights, part, pointers, sizes, taken.length);
    for (const at of [...taken, pointers, sizes]) wasm.free(at);
    return fits;
  }

  /**
   * A text to read and write; `free` it, or memory stays taken.
   *
   * @param {number} loops
   * @param {object | null} change What is changed while it reads: `chosen` experts per token, and the arrays of
   *   tampering.js.
   */
  decoder(loops = this.shape.num_loops, change = null) {
    return new Decoder(this, loops, change);
  }
}

/** One text that is read and written, with its own cache. */
export class Decoder {
  constructor(model, loops, change) {
    const { wasm, shape } = model,
      positions = shape.max_position_embeddings,
      chosen = change?.chosen ?? shape.num_experts_per_tok;
    Object.assign(this, {
      model,
      wasm,
      length: 0,
      context: positions,
      rows: routingRows(shape, loops).length,
      passes: depth(shape, loops),
      chosen,
    });
    this.row = 2 * this.rows * this.chosen; // numbers of a position
    const room = {
      experts: positions * this.row,
      gates: positions * this.row,
      drawn: DRAWN,
      tokens: positions,
      settings: 8,
      ends: MOST_ENDS,
    };
    for (const [name, count] of Object.entries(room)) this[name] = model.allocate(4 * count);
    this.taken = Object.keys(room).map((name) => this[name]);
    const changed = change ? this.keepChange(change) : 0;
    this.state =
      wasm.axion_decoder_new(
        model.weights,
        1,
        positions,
        loops,
        model.cos,
        model.sin,
        this.experts,
        this.gates,
        this.drawn,
        changed,
      ) >>> 0;
    if (!this.state) throw new ReleaseError("there is not enough memory for a text of this model");
  }

  // The struct Tampering of csrc/decoding/tampering.h.
  keepChange({ chosen, bias, scales, heads }) {
    const arrays = [bias, scales, heads].map((numbers) => this.model.keep(numbers));
    const at = this.model.allocate(4 * (1 + arrays.length));
    new Uint32Array(this.model.buffer, at, 1 + arrays.length).set([chosen, ...arrays]);
    this.taken.push(...arrays, at);
    return at;
  }

  free() {
    if (this.state) this.wasm.axion_decoder_free(this.state);
    for (const at of this.taken.splice(0)) this.wasm.free(at);
    this.state = 0;
  }

  /** Sets how tokens are drawn; see `Sampling` in csrc/decoding/sampling.h. */
  setSampling({ temperature, top_k, top_p, min_p, repetition_penalty }, firstEnd, ends) {
    const { buffer } = this.model,
      known = ends.filter((id) => id < this.model.shape.vocab_size).slice(0, MOST_ENDS);
    new Int32Array(buffer, this.ends, known.length).set(known);
    new Float32Array(buffer, this.settings, 4).set([temperature, top_p, min_p, repetition_penalty]);
    new Int32Array(buffer, this.settings + 16, 4).set([top_k, firstEnd, known.length, this.ends]);
    this.wasm.axion_decoder_sampling(this.state, this.settings);
  }

  get room() {
    return this.context - this.length;
  }

  read(ids) {
    new Int32Array(this.model.buffer, this.tokens, ids.length).set(ids);
    if (!this.wasm.axion_decoder_read(this.state, this.tokens, ids.length))
      throw new ReleaseError("there is not enough memory to read the tokens");
    this.length += ids.length;
  }

  /** Reads one token; returns its attention weights [P][H][T] and its affinities to all experts [L][E]. */
  readWatched(token) {
    const { model, wasm, rows, passes } = this,
      { num_attention_heads: heads, n_routed_experts: experts } = model.shape;
    const tokens = this.length + 1,
      sizes = [passes * heads * tokens, rows * experts];
    const [attention, affinities] = sizes.map((size) => model.allocate(4 * size));
    try {
      wasm.axion_decoder_watch(this.state, this.length, attention, affinities);
      this.read([token]);
      const numbers = (at, size) => [...new Float32Array(model.buffer, at, size)];
      const cut = (list, size) =>
        Array.from({ length: list.length / size }, (_, at) => list.slice(at * size, (at + 1) * size));
      return {
        attention: cut(cut(numbers(attention, sizes[0]), tokens), heads),
        affinities: cut(numbers(affinities, sizes[1]), experts),
      };
    } finally {
      wasm.axion_decoder_watch(this.state, -1, 0, 0);
      wasm.free(attention);
      wasm.free(affinities);
    }
  }

  /** The logits [V] of the next token. */
  logits() {
    const size = this.model.shape.vocab_size,
      at = this.model.allocate(4 * size);
    this.wasm.axion_decoder_logits(this.state, at);
    const logits = [...new Float32Array(this.model.buffer, at, size)];
    this.wasm.free(at);
    return logits;
  }

  /** Draws the next token, or takes the forced one, and reads it; null where it ends the text. */
  draw(uniform, forced = -1) {
    const token = this.wasm.axion_decoder_step(this.state, uniform, forced);
    if (token < 0) return null;
    this.length++;
    return token;
  }

  /** What `draw` would return, without reading it. */
  choose(uniform) {
    const token = this.wasm.axion_decoder_choose(this.state, uniform);
    return token < 0 ? null : token;
  }

  /** What the layer of multi-token prediction guesses that follows `token`; null for an end. */
  guess(token, uniform) {
    const guessed = this.wasm.axion_decoder_guess(this.state, token, uniform);
    return guessed < 0 ? null : guessed;
  }

  /** Reads a draft in one pass and keeps its tokens up to the first that `draw` would not draw; returns their draws. */
  verify(draft, uniforms) {
    const { model } = this;
    const [numbers, drawn] = [8 * draft.length, 4 * DRAWN * draft.length].map((bytes) => model.allocate(bytes));
    new Int32Array(model.buffer, this.tokens, draft.length).set(draft);
    new Float64Array(model.buffer, numbers, draft.length).set(uniforms);
    const kept = this.wasm.axion_decoder_verify(this.state, this.tokens, draft.length, numbers, drawn);
    const found = Array.from({ length: kept }, (_, at) => this.drawnAt(drawn + 4 * DRAWN * at));
    for (const at of [numbers, drawn]) this.wasm.free(at);
    this.length += kept;
    return found;
  }

  /** Truncates to the first `length` tokens. */
  rewind(length) {
    this.wasm.axion_decoder_rewind(this.state, length);
    this.length = length;
  }

  /** The model's own probabilities at the last draw. */
  probabilities() {
    return this.drawnAt(this.drawn);
  }

  drawnAt(at) {
    const numbers = new Float32Array(this.model.buffer, at, DRAWN);
    const ids = [...new Int32Array(this.model.buffer, at + 4, ALTERNATIVES)];
    return { probability: numbers[0], ids, probabilities: [...numbers.subarray(1 + ALTERNATIVES)] };
  }

  /** Experts, gates, affinities and displaced experts of the token at a position, a list for each row. */
  routing(position) {
    const half = this.row / 2,
      at = 4 * position * this.row;
    const experts = new Int32Array(this.model.buffer, this.experts + at, this.row);
    const weights = new Float32Array(this.model.buffer, this.gates + at, this.row);
    const rows = (numbers, from) =>
      Array.from({ length: this.rows }, (_, row) => [
        ...numbers.subarray(from + row * this.chosen, from + (row + 1) * this.chosen),
      ]);
    return {
      experts: rows(experts, 0),
      gates: rows(weights, 0),
      affinities: rows(weights, half),
      displaced: rows(experts, half).map((row) => row.filter((expert) => expert >= 0)),
    };
  }
}
