// model.safetensors, and the parts of a model's weights as the decoder takes them (csrc/decoding/pack.h).
import { ReleaseError } from "./errors.js";

const BYTES = { F64: 8, F32: 4, F16: 2, BF16: 2 };
const MOST_HEADER = 100_000_000; // as in safetensors itself

/**
 * A file of weights, checked against the shapes that a model needs.
 *
 * @param {ArrayBuffer} buffer The content of model.safetensors.
 * @param {Map<string, number[]>} shapes Name → shape.
 * @param {string} passedOver How the names of weights begin that the file may also hold.
 * @returns {(name: string, from?: number, count?: number) => Float32Array} Gives a weight, or a piece of it, as fp32.
 */
export function readWeights(buffer, shapes, passedOver) {
  const { header, start } = readHeader(buffer);
  for (const name of Object.keys(header)) {
    if (name !== "__metadata__" && !shapes.has(name) && !name.startsWith(passedOver))
      fail(`it has ${name.slice(0, 80)}, which config.json's model has not`);
  }
  for (const [name, shape] of shapes)
    checkEntry(name, Object.hasOwn(header, name) ? header[name] : undefined, shape, buffer.byteLength - start);
  return (name, from = 0, count = null) => {
    const {
        dtype,
        data_offsets: [begin, end],
      } = header[name],
      size = BYTES[dtype];
    const first = start + begin + from * size;
    const bytes = buffer.slice(first, count === null ? start + end : first + count * size); // aligned
    const numbers = toFloats(dtype, bytes);
    for (let i = 0; i < numbers.length; i++)
      if (numbers[i] - numbers[i] !== 0) fail(`${name} has NaN or infinite values`);
    return numbers;
  };
}

function readHeader(buffer) {
  if (buffer.byteLength < 8) fail("it is empty or truncated");
  const length = new DataView(buffer).getBigUint64(0, true);
  if (length > BigInt(Math.min(MOST_HEADER, buffer.byteLength - 8))) fail("it is truncated, or no safetensors file");
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, Number(length))));
  } catch {
    fail("its header is no JSON");
  }
  if (header === null || typeof header !== "object" || Array.isArray(header)) fail("its header is no object");
  return { header, start: 8 + Number(length) };
}

function checkEntry(name, entry, shape, available) {
  if (!entry) fail(`${name} is missing`);
  const size = BYTES[entry.dtype],
    [begin, end] = Array.isArray(entry.data_offsets) ? entry.data_offsets : [];
  if (!size) fail(`${name} has the type ${String(entry.dtype).slice(0, 20)}; F32, F16, BF16 and F64 can be read`);
  if (
    !Array.isArray(entry.shape) ||
    entry.shape.length !== shape.length ||
    !shape.every((n, i) => n === entry.shape[i])
  ) {
    fail(
      `${name} has the shape ${JSON.stringify(entry.shape)?.slice(0, 60)}; config.json needs ${JSON.stringify(shape)}`,
    );
  }
  const bytes = size * shape.reduce((product, n) => product * n, 1);
  if (!(Number.isInteger(begin) && begin >= 0 && end === begin + bytes && end <= available))
    fail(`it is truncated: ${name} is not all there`);
}

function toFloats(dtype, bytes) {
  if (dtype === "F32") return new Float32Array(bytes);
  if (dtype === "F64") return Float32Array.from(new Float64Array(bytes));
  const halves = new Uint16Array(bytes),
    words = new Uint32Array(halves.length);
  if (dtype === "BF16") halves.forEach((half, i) => (words[i] = half << 16));
  else return Float32Array.from(halves, halfToFloat);
  return new Float32Array(words.buffer);
}

function halfToFloat(half) {
  const sign = half >> 15 ? -1 : 1,
    exponent = (half >> 10) & 31,
    fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}

/** Name → shape of every weight, as `weight_shapes` in axion/weights.py has them. */
export function weightShapes(shape, prediction = false) {
  const shapes = new Map(),
    { vocab_size: V, hidden_size: D } = shape;
  if (shape.num_shared_layers) shapes.set("model.loop_gate", [1]);
  shapes.set("model.embed_tokens.weight", [V, D]);
  for (let index = 0; index < shape.num_hidden_layers; index++) addLayer(shapes, shape, index);
  shapes.set("model.norm.weight", [D]);
  if (!shape.tie_word_embeddings) shapes.set("lm_head.weight", [V, D]);
  if (prediction) {
    const prefix = `model.layers.${shape.num_hidden_layers}`;
    addLayer(shapes, shape, shape.num_hidden_layers);
    for (const name of ["enorm", "hnorm", "shared_head.norm"]) shapes.set(`${prefix}.${name}.weight`, [D]);
    shapes.set(`${prefix}.eh_proj.weight`, [D, 2 * D]);
  }
  return shapes;
}

function addLayer(shapes, shape, index) {
  const {
    hidden_size: D,
    num_attention_heads: H,
    projection_rank: rank,
    moe_intermediate_size: F,
    n_routed_experts: E,
  } = shape;
  const prefix = `model.layers.${index}`;
  const set = (name, ...sizes) => shapes.set(`${prefix}.${name}`, sizes);
  const linear = (name, outputs, inputs) => {
    if (rank === null) return set(`${name}.weight`, outputs, inputs);
    set(`${name}.a.weight`, rank, inputs);
    set(`${name}.b.weight`, outputs, rank);
  };
  const swiglu = (name, width) => {
    linear(`${name}.gate_proj`, width, D);
    linear(`${name}.up_proj`, width, D);
    linear(`${name}.down_proj`, D, width);
  };
  if (shape.attention === "gqa") {
    linear("self_attn.q_proj", H * shape.head_dim, D);
    linear("self_attn.k_proj", shape.num_key_value_heads * shape.head_dim, D);
    linear("self_attn.v_proj", shape.num_key_value_heads * shape.head_dim, D);
    linear("self_attn.o_proj", D, H * shape.head_dim);
  } else {
    const { q_lora_rank: Q, kv_lora_rank: R, qk_head_dim: K, v_head_dim: v } = shape;
    if (Q === null) linear("self_attn.q_proj", H * K, D);
    else {
      linear("self_attn.q_a_proj", Q, D);
      linear("self_attn.q_b_proj", H * K, Q);
      set("self_attn.q_a_layernorm.weight", Q);
    }
    linear("self_attn.kv_a_proj_with_mqa", R + shape.qk_rope_head_dim, D);
    set("self_attn.kv_a_layernorm.weight", R);
    linear("self_attn.kv_b_proj", H * (shape.qk_nope_head_dim + v), R);
    linear("self_attn.o_proj", D, H * v);
  }
  if (index < shape.first_k_dense_replace) swiglu("mlp", shape.intermediate_size);
  else {
    set("mlp.gate.weight", E, D);
    set("mlp.gate.e_score_correction_bias", E);
    set("mlp.experts.gate_up_proj", E, 2 * F, D);
    set("mlp.experts.down_proj", E, D, F);
    swiglu("mlp.shared_experts", F * shape.n_shared_experts);
  }
  set("input_layernorm.weight", D);
  set("post_attention_layernorm.weight", D);
}

/** The tensors of each part of the weights, a few at a time, in the order of `parts` in axion/kernels/pack.py. */
export function* parts(shape, tensor, prediction = false) {
  yield [tensor("model.embed_tokens.weight")];
  for (let index = 0; index < shape.num_hidden_layers; index++) yield* layerParts(shape, tensor, index);
  const gate = shape.num_shared_layers ? [tensor("model.loop_gate")] : [];
  yield [
    ...gate,
    tensor("model.norm.weight"),
    tensor(shape.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight"),
  ];
  if (prediction) {
    const names = ["enorm", "hnorm", "eh_proj", "shared_head.norm"];
    yield names.map((name) => tensor(`model.layers.${shape.num_hidden_layers}.${name}.weight`));
    yield* layerParts(shape, tensor, shape.num_hidden_layers);
  }
}

function* layerParts(shape, tensor, index) {
  const { hidden_size: D, moe_intermediate_size: F } = shape;
  const own = (name) => tensor(`model.layers.${index}.${name}`);
  const linear = (name) =>
    shape.projection_rank === null ? [own(`${name}.weight`)] : [own(`${name}.a.weight`), own(`${name}.b.weight`)];
  const swiglu = (name) => ["gate_proj", "up_proj", "down_proj"].flatMap((part) => linear(`${name}.${part}`));
  const query = shape.q_lora_rank === null ? ["q_proj"] : ["q_a_proj", "q_a_layernorm", "q_b_proj"];
  const names =
    shape.attention === "gqa"
      ? ["k_proj", "v_proj", "q_proj", "o_proj"]
      : [...query, "kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj", "o_proj"];
  const attention = (name) =>
    name.endsWith("layernorm") ? [own(`self_attn.${name}.weight`)] : linear(`self_attn.${name}`);
  yield [own("input_layernorm.weight"), ...names.flatMap(attention)];
  const gain = own("post_attention_layernorm.weight");
  if (index < shape.first_k_dense_replace) {
    yield [gain, ...swiglu("mlp")];
    return;
  }
  yield [gain, own("mlp.gate.weight"), own("mlp.gate.e_score_correction_bias")];
  yield [gain, ...swiglu("mlp.shared_experts")];
  const piece = (name, ...place) => tensor(`model.layers.${index}.mlp.experts.${name}`, ...place);
  for (let expert = 0; expert < shape.n_routed_experts; expert++) {
    const [gate, up] = [2 * expert, 2 * expert + 1].map((half) => piece("gate_up_proj", half * F * D, F * D));
    yield [gain, gate, up, piece("down_proj", expert * D * F, D * F)];
  }
}

function fail(problem) {
  throw new ReleaseError(`model.safetensors: ${problem}`);
}
