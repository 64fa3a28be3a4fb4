// The random numbers in [0, 1) that decide the draws, equal to `Uniforms` in axion/inference/sampling.py.

const SIZE = 624,
  SHIFT = 397;

/** Number i of a seed, for the new token with index i: element i of torch.rand in float64 (Mersenne Twister). */
export class Uniforms {
  constructor(seed) {
    this.state = new Uint32Array(SIZE);
    this.state[0] = seed % 2 ** 32; // PyTorch, too, reads the lower 32 bits
    for (let i = 1; i < SIZE; i++)
      this.state[i] = Math.imul(1812433253, this.state[i - 1] ^ (this.state[i - 1] >>> 30)) + i;
    this.at = SIZE;
    this.numbers = [];
  }

  get(index) {
    while (index >= this.numbers.length) {
      const high = this.word(),
        low = this.word();
      this.numbers.push((high % 2 ** 21) * 2 ** -21 + low * 2 ** -53);
    }
    return this.numbers[index];
  }

  word() {
    if (this.at === SIZE) this.turn();
    let word = this.state[this.at++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  }

  turn() {
    const { state } = this;
    for (let i = 0; i < SIZE; i++) {
      const mixed = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
      state[i] = state[(i + SHIFT) % SIZE] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
    }
    this.at = 0;
  }
}
