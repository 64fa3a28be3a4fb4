// The angles of rotary positions, rounded to fp32 where axion/kernels/rotary.py rounds.

const { fround } = Math;

/** Cosines and sines [S, P/2] for every position of the context. */
export function rotaryAngles(shape) {
  const rope = shape.rope_parameters,
    size = shape.head_dim,
    positions = shape.max_position_embeddings;
  const exponents = Array.from({ length: size / 2 }, (_, pair) => fround((2 * pair) / size));
  const [frequencies, factor] =
    rope.rope_type === "yarn"
      ? yarn(shape, exponents)
      : [exponents.map((exponent) => fround(rope.rope_theta ** -exponent)), 1];
  const cos = new Float32Array(positions * frequencies.length),
    sin = new Float32Array(cos.length);
  for (let position = 0, at = 0; position < positions; position++) {
    for (const frequency of frequencies) {
      const angle = fround(position * frequency);
      cos[at] = fround(Math.cos(angle)) * fround(factor);
      sin[at++] = fround(Math.sin(angle)) * fround(factor);
    }
  }
  return { cos, sin };
}

/** YaRN's frequencies and its factor on cosines and sines (arXiv 2309.00071), as in transformers. */
function yarn(shape, exponents) {
  const rope = shape.rope_parameters,
    size = shape.head_dim,
    { rope_theta: base, factor } = rope;
  const original = rope.original_max_position_embeddings ?? shape.max_position_embeddings;
  const dimension = (turns) => (size * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  let low = dimension(rope.beta_fast || 32),
    high = dimension(rope.beta_slow || 1);
  if (rope.truncate ?? true) [low, high] = [Math.floor(low), Math.ceil(high)];
  [low, high] = [Math.max(low, 0), Math.min(high, size - 1)];
  const width = fround(high - low || 0.001);
  const frequencies = exponents.map((exponent, pair) => {
    const ramp = fround(fround(pair - fround(low)) / width),
      kept = fround(1 - Math.min(Math.max(ramp, 0), 1));
    const period = fround(base ** exponent);
    const slowed = fround(fround(1 / fround(fround(factor) * period)) * fround(1 - kept));
    return fround(slowed + fround(fround(1 / period) * kept));
  });
  const magnitude = (scale) => (factor > 1 ? 0.1 * scale * Math.log(factor) + 1 : 1);
  const { mscale, mscale_all_dim: all } = rope;
  return [frequencies, rope.attention_factor ?? (mscale && all ? magnitude(mscale) / magnitude(all) : magnitude(1))];
}
