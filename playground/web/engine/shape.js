// The shape of a model: config.json, checked, and what follows from it (axion/model/shape_axion.py, axion/kernels).
import { ReleaseError } from "./errors.js";

const MOST = 2 ** 31 - 1;

const COUNTS = {
  vocab_size: 1024,
  hidden_size: 64,
  intermediate_size: 256,
  moe_intermediate_size: 64,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  max_position_embeddings: 512,
  num_loops: 1,
  n_routed_experts: 4,
  n_shared_experts: 1,
  num_experts_per_tok: 2,
  n_group: 1,
  topk_group: 1,
};
const LATENT = { kv_lora_rank: 8, qk_nope_head_dim: 12, qk_rope_head_dim: 4, v_head_dim: 16 };
const FROM_ZERO = { first_k_dense_replace: 0, num_shared_layers: 0, num_nextn_predict_layers: 0 };

export const LEAST_VOCABULARY = 5; // as many alternatives as a draw reports

const MOST_LOOPS = 8; // axion/inference/variants.py
const MOST_LAYERS = 1000; // far more than a page can read; what follows goes through all of them

/** The fields of a config.json with their defaults; throws ReleaseError where no model can have them. */
export function readShape(config) {
  if (config === null || typeof config !== "object" || config.model_type !== "axion") {
    fail(`config.json: model_type is ${show(config?.model_type)}; this page reads "axion"`);
  }
  const attention = config.attention ?? "mla",
    grouped = attention === "gqa";
  if (!["mla", "gqa"].includes(attention))
    fail(`config.json: attention is ${show(attention)}; it must be "mla" or "gqa"`);
  const shape = { attention };
  const whole = (name, fallback, least, optional = false) => {
    const value = config[name] ?? (optional ? null : fallback);
    if (value !== null && !(Number.isInteger(value) && value >= least && value <= MOST)) {
      fail(`config.json: ${name} is ${show(value)}; it must be a whole number of at least ${least}`);
    }
    shape[name] = value;
  };
  for (const [name, fallback] of Object.entries(COUNTS)) whole(name, fallback, 1);
  for (const [name, fallback] of Object.entries(FROM_ZERO)) whole(name, fallback, 0);
  whole("num_key_value_heads", shape.num_attention_heads, 1);
  whole("projection_rank", null, 1, true);
  if (grouped) {
    whole("head_dim", Math.floor(shape.hidden_size / shape.num_attention_heads), 1);
    for (const name of [...Object.keys(LATENT), "q_lora_rank"]) shape[name] = null;
    shape.qk_head_dim = shape.head_dim;
  } else {
    for (const [name, fallback] of Object.entries(LATENT)) whole(name, fallback, 1);
    shape.q_lora_rank = 16;
    if ("q_lora_rank" in config) whole("q_lora_rank", null, 1, true);
    shape.head_dim = shape.qk_rope_head_dim; // what is rotated
    shape.qk_head_dim = shape.qk_nope_head_dim + shape.qk_rope_head_dim;
  }
  for (const [name, fallback] of Object.entries({ rms_norm_eps: 1e-6, routed_scaling_factor: 1 })) {
    shape[name] = config[name] ?? fallback;
    if (!Number.isFinite(shape[name])) fail(`config.json: ${name} is ${show(shape[name])}; it must be a number`);
  }
  for (const [name, fallback] of Object.entries({
    norm_topk_prob: true,
    tie_word_embeddings: true,
    rope_interleave: !grouped,
  })) {
    shape[name] = config[name] ?? fallback;
    if (typeof shape[name] !== "boolean")
      fail(`config.json: ${name} is ${show(shape[name])}; it must be true or false`);
  }
  shape.rope_parameters = readRope(config.rope_parameters);
  checkTogether(shape, config);
  return shape;
}

function readRope(given) {
  const rope = { rope_theta: 10000, rope_type: "default", ...given };
  const isNumber = ([name, value]) =>
    ["rope_type", "truncate"].includes(name) || value === null || (Number.isFinite(value) && value >= 0);
  const known = { default: ["rope_type", "rope_theta"], yarn: null }[rope.rope_type];
  if (known === undefined || (known && !Object.keys(rope).every((name) => known.includes(name)))) {
    fail(
      `config.json: rope_parameters has rope_type ${show(rope.rope_type)}; it must be "default" or "yarn" with its own fields`,
    );
  }
  if (
    !Object.entries(rope).every(isNumber) ||
    !(rope.rope_theta > 0) ||
    (rope.rope_type === "yarn" && !(rope.factor >= 1))
  ) {
    fail('config.json: rope_parameters needs numbers, a rope_theta above 0, and for "yarn" a factor of at least 1');
  }
  return rope;
}

function checkTogether(shape, config) {
  const grouped = shape.attention === "gqa",
    perGroup = shape.n_routed_experts / shape.n_group;
  const hasExperts = shape.first_k_dense_replace < shape.num_hidden_layers;
  const rules = {
    hidden_act: [(config.hidden_act ?? "silu") === "silu", 'must be "silu"'],
    attention_bias: [!config.attention_bias, "must be false"],
    head_dim: [shape.head_dim % 2 === 0, "must be even"],
    rope_interleave: [!grouped || !shape.rope_interleave, 'must be false with attention "gqa"'],
    num_key_value_heads: grouped
      ? [
          shape.num_attention_heads % shape.num_key_value_heads === 0,
          `must divide num_attention_heads (${shape.num_attention_heads})`,
        ]
      : [
          shape.num_key_value_heads === shape.num_attention_heads,
          `must be num_attention_heads (${shape.num_attention_heads})`,
        ],
    n_group: [
      Number.isInteger(perGroup) && (shape.n_group === 1 || perGroup >= 2),
      `must divide n_routed_experts (${shape.n_routed_experts}) into groups of at least two`,
    ],
    topk_group: [shape.topk_group <= shape.n_group, `must be at most n_group (${shape.n_group})`],
    num_experts_per_tok: [
      shape.num_experts_per_tok <= perGroup * shape.topk_group,
      `must be at most ${perGroup * shape.topk_group}`,
    ],
    first_k_dense_replace: [
      shape.first_k_dense_replace <= shape.num_hidden_layers,
      `must be at most num_hidden_layers (${shape.num_hidden_layers})`,
    ],
    num_shared_layers: [
      shape.num_shared_layers <= shape.num_hidden_layers,
      `must be at most num_hidden_layers (${shape.num_hidden_layers})`,
    ],
    num_loops: [
      shape.num_loops <= 64 && (shape.num_loops === 1 || shape.num_shared_layers > 0),
      "must be 1 without num_shared_layers, and at most 64",
    ],
    projection_rank: [
      shape.projection_rank === null || (grouped && !hasExperts),
      'needs attention "gqa" and only dense layers',
    ],
    num_nextn_predict_layers: [
      shape.num_nextn_predict_layers <= Number(hasExperts),
      "must be 0, or 1 in a model whose last layers have experts",
    ],
    num_hidden_layers: [shape.num_hidden_layers <= MOST_LAYERS, `must be at most ${MOST_LAYERS}`],
    vocab_size: [shape.vocab_size >= LEAST_VOCABULARY, `must be at least ${LEAST_VOCABULARY}`],
  };
  for (const [name, [holds, rule]] of Object.entries(rules)) {
    if (!holds) fail(`config.json: ${name} is ${show(shape[name] ?? config[name])}; it ${rule}`);
  }
}

/** The layers that are looped, [first, behind the last]. */
export function sharedLayers(shape) {
  const start = Math.floor((shape.num_hidden_layers - shape.num_shared_layers) / 2);
  return [start, start + shape.num_shared_layers];
}

/** How many layers a token passes through. */
export const depth = (shape, loops = shape.num_loops) =>
  shape.num_hidden_layers + (loops - 1) * shape.num_shared_layers;

/** The [layer, loop], both from 1, of each pass through a layer. */
export function layerPasses(shape, loops = shape.num_loops) {
  const [start, stop] = sharedLayers(shape),
    passes = [];
  const add = (from, to, loop) => {
    for (let layer = from; layer < to; layer++) passes.push([layer + 1, loop]);
  };
  add(0, start, 1);
  for (let loop = 1; loop <= loops; loop++) add(start, stop, loop);
  add(stop, shape.num_hidden_layers, 1);
  return passes;
}

/** The passes through a layer with experts: the rows of a trace. */
export function routingRows(shape, loops = shape.num_loops) {
  return layerPasses(shape, loops).filter(([layer]) => layer > shape.first_k_dense_replace);
}

/** The loops of a request: 0 for the model's own; null where it cannot have them. */
export function loopsOf(shape, asked) {
  if (asked === 0 || asked === shape.num_loops) return shape.num_loops;
  return asked <= MOST_LOOPS && (asked === 1 || shape.num_shared_layers > 0) ? asked : null;
}

/** Bytes in the cache per token: what is kept, and what plain multi-head attention would keep. */
export function cacheBytes(shape, loops = shape.num_loops) {
  const heads = shape.num_attention_heads,
    perToken = 4 * depth(shape, loops);
  const [kept, plain] =
    shape.attention === "gqa"
      ? [2 * shape.num_key_value_heads * shape.head_dim, 2 * heads * shape.head_dim]
      : [shape.kv_lora_rank + shape.qk_rope_head_dim, heads * (shape.qk_head_dim + shape.v_head_dim)];
  return { kept: kept * perToken, plain: plain * perToken };
}

function softmaxScale(shape) {
  const rope = shape.rope_parameters,
    scale = shape.qk_head_dim ** -0.5;
  if (shape.attention === "gqa" || rope.rope_type === "default" || !rope.mscale_all_dim || rope.factor <= 1)
    return scale;
  return scale * (0.1 * rope.mscale_all_dim * Math.log(rope.factor) + 1) ** 2;
}

function keptRank(shape) {
  const { projection_rank: rank, hidden_size: hidden, intermediate_size: width } = shape;
  if (rank === null) return 0;
  const queries = shape.num_attention_heads * shape.head_dim,
    keys = shape.num_key_value_heads * shape.head_dim;
  const full = 2 * hidden * (queries + keys) + 3 * hidden * width;
  const factors = rank * (2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + width));
  return factors < full ? rank : 0;
}

/** The decoder's dimensions by name, as `dimensions` in axion/kernels/dimensions.py has them. */
export function dimensions(shape) {
  const { kv_lora_rank: R, qk_nope_head_dim: N, v_head_dim: V, hidden_size: D } = shape;
  const grouped = shape.attention === "gqa",
    Q = shape.q_lora_rank ?? D,
    scale = softmaxScale(shape);
  return {
    kVocabulary: shape.vocab_size,
    kHidden: D,
    kLayers: shape.num_hidden_layers,
    kDenseLayers: shape.first_k_dense_replace,
    kDenseWidth: shape.intermediate_size,
    kEntryLayers: sharedLayers(shape)[0],
    kSharedLayers: shape.num_shared_layers,
    kPredictionLayers: shape.num_nextn_predict_layers,
    kProjectionRank: shape.projection_rank ?? 0,
    kKeptRank: keptRank(shape),
    kHeads: shape.num_attention_heads,
    kKeyValueHeads: shape.num_key_value_heads,
    kHeadDim: shape.qk_head_dim,
    kQueryRank: shape.q_lora_rank ?? 0,
    kLatent: R ?? 0,
    kNope: N ?? 0,
    kRope: shape.head_dim,
    kValue: grouped ? shape.head_dim : V,
    kExperts: shape.n_routed_experts,
    kChosen: shape.num_experts_per_tok,
    kExpertWidth: shape.moe_intermediate_size,
    kSharedWidth: shape.moe_intermediate_size * shape.n_shared_experts,
    kGroups: shape.n_group,
    kTopGroups: shape.topk_group,
    kGroupedQuery: grouped,
    kNormalise: shape.norm_topk_prob,
    kInterleave: shape.rope_interleave,
    kAbsorbKeys: !grouped && Q * R <= Q * N + N * R,
    kAbsorbValues: !grouped && R * D <= R * V + V * D,
    kRoutedScale: shape.routed_scaling_factor,
    kSoftmaxScale: scale,
    kQueryScale: scale * Math.LOG2E,
    kNormEpsilon: shape.rms_norm_eps,
  };
}

function show(value) {
  const text = JSON.stringify(value) ?? "missing";
  return text.length <= 40 ? text : `${text.slice(0, 39)}…`;
}

function fail(message) {
  throw new ReleaseError(message);
}
