// Byte-level BPE of a tokenizer.json: text to ids and back, equal to the `tokenizers` package.
import { ReleaseError } from "./errors.js";
import { translatePattern } from "./pattern.js";

// What ByteLevel splits by where it uses its own pattern.
const BYTE_LEVEL = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

const MOST_KNOWN = 10_000; // words whose tokens are remembered
const MOST_LETTERS = 100; // of such a word

// The printable character that stands for each byte, as in GPT-2.
function byteCharacters() {
  let next = 256;
  const isShown = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isShown(byte) ? byte : next++));
}

const CHARACTERS = byteCharacters();
const BYTES = new Map(CHARACTERS.map((character, byte) => [character, byte]));

const utf8 = new TextEncoder();

/** Bytes as text; what is no UTF-8 becomes U+FFFD. */
const toText = (bytes) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));

export class Tokenizer {
  /** @param {object} content Of tokenizer.json. Throws ReleaseError for a kind of tokenizer that Axion does not make. */
  constructor(content) {
    try {
      this.read(content);
    } catch (error) {
      const reason = error instanceof TypeError ? "it lacks parts of a byte-level BPE" : error.message;
      throw new ReleaseError(`tokenizer.json: ${reason}`);
    }
  }

  read({ model, normalizer, pre_tokenizer, decoder, added_tokens, post_processor, truncation, padding }) {
    if (model.type !== "BPE" || decoder?.type !== "ByteLevel") throw new Error("it is no byte-level BPE");
    if (
      normalizer ||
      truncation ||
      padding ||
      model.dropout ||
      model.byte_fallback ||
      model.continuing_subword_prefix ||
      model.end_of_word_suffix ||
      model.unk_token
    ) {
      throw new Error("it has a normalizer, or options of BPE, that this page cannot read");
    }
    this.patterns = readSplits(pre_tokenizer).map(translatePattern);
    this.ids = new Map(Object.entries(model.vocab));
    this.tokens = new Map();
    for (const [token, id] of this.ids) {
      if (!Number.isInteger(id) || id < 0) throw new Error(`the id of ${token.slice(0, 20)} is no whole number`);
      this.tokens.set(id, token);
    }
    this.readMerges(model.merges);
    this.ignoresMerges = Boolean(model.ignore_merges);
    this.readAdded(added_tokens);
    this.before = readTemplate(post_processor);
    this.known = new Map();
  }

  // A merge of two tokens has the key left·2³² + right, its rank, and the token that it makes.
  readMerges(merges) {
    this.merges = new Map();
    merges.forEach((pair, rank) => {
      const [left, right] = typeof pair === "string" ? pair.split(" ") : pair;
      const ids = [left, right, left + right].map((token) => this.ids.get(token));
      if (ids.includes(undefined)) throw new Error(`merge ${rank} makes no token`);
      const key = ids[0] * 2 ** 32 + ids[1];
      if (!this.merges.has(key)) this.merges.set(key, { rank, made: ids[2] });
    });
    this.byteIds = CHARACTERS.map((character) => this.ids.get(character));
  }

  readAdded(added) {
    this.added = new Map();
    this.special = new Set();
    for (const { id, content, special, lstrip, rstrip, single_word } of added) {
      if (!content || lstrip || rstrip || single_word)
        throw new Error(`the added token ${String(content).slice(0, 20)} has options that this page cannot read`);
      this.added.set(content, id);
      this.tokens.set(id, content);
      if (special) this.special.add(id);
    }
    const longestFirst = [...this.added.keys()].sort((a, b) => b.length - a.length);
    const escaped = longestFirst.map((token) => token.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    this.addedPattern = escaped.length ? new RegExp(`(${escaped.join("|")})`) : null;
  }

  get size() {
    return Math.max(...[...this.tokens.keys()].slice(-1), this.tokens.size - 1) + 1;
  }

  /** Token ids of a text, after the token that begins every text. */
  encode(text) {
    const ids = [...this.before];
    const parts = this.addedPattern ? text.split(this.addedPattern) : [text];
    parts.forEach((part, index) => {
      if (index % 2) ids.push(this.added.get(part));
      else for (const word of this.words(part)) for (const id of this.encodeWord(word)) ids.push(id);
    });
    return ids;
  }

  words(text) {
    let words = text ? [text] : [];
    for (const pattern of this.patterns) words = words.flatMap((word) => split(word, pattern));
    return words;
  }

  encodeWord(word) {
    const known = this.known.get(word);
    if (known) return known;
    const bytes = utf8.encode(word);
    const whole = this.ignoresMerges ? this.ids.get(Array.from(bytes, (byte) => CHARACTERS[byte]).join("")) : undefined;
    const ids =
      whole === undefined
        ? this.merge(Array.from(bytes, (byte) => this.byteIds[byte]).filter((id) => id !== undefined))
        : [whole];
    if (word.length <= MOST_LETTERS) {
      if (this.known.size >= MOST_KNOWN) this.known.clear();
      this.known.set(word, ids);
    }
    return ids;
  }

  // Merges neighbours, the lowest rank first and of equal ones the leftmost, with a heap of candidates.
  merge(ids) {
    const next = ids.map((_, i) => i + 1),
      previous = ids.map((_, i) => i - 1),
      heap = new Heap();
    const offer = (left) => {
      const right = next[left],
        found = right < ids.length ? this.merges.get(ids[left] * 2 ** 32 + ids[right]) : undefined;
      if (found) heap.push({ rank: found.rank, left, right, leftId: ids[left], rightId: ids[right], made: found.made });
    };
    for (let i = 0; i + 1 < ids.length; i++) offer(i);
    for (let best; (best = heap.pop());) {
      const { left, right } = best;
      if (ids[left] !== best.leftId || ids[right] !== best.rightId || next[left] !== right) continue; // merged meanwhile
      ids[left] = best.made;
      ids[right] = -1;
      next[left] = next[right];
      if (next[left] < ids.length) previous[next[left]] = left;
      if (previous[left] >= 0) offer(previous[left]);
      offer(left);
    }
    return ids.filter((id) => id >= 0);
  }

  bytesOf(id) {
    const token = this.tokens.get(id);
    if (token === undefined) return [];
    const bytes = Array.from(token, (character) => BYTES.get(character));
    return bytes.includes(undefined) ? [...utf8.encode(token)] : bytes;
  }

  /** The text of tokens, special ones included. */
  decode(ids) {
    return toText(ids.flatMap((id) => this.bytesOf(id)));
  }

  /** A function that returns what each token adds to a text: nothing for special ones and inside a character. */
  decodeStream() {
    let waiting = [];
    return (id) => {
      if (this.special.has(id)) return "";
      waiting.push(...this.bytesOf(id));
      const text = toText(waiting);
      if (!text || text.endsWith("\ufffd")) return "";
      waiting = [];
      return text;
    };
  }
}

// The patterns by which a pre-tokenizer splits. All of a text is kept: what does not match is a piece, too.
function readSplits(preTokenizer) {
  const steps = preTokenizer.type === "Sequence" ? preTokenizer.pretokenizers : [preTokenizer];
  const last = steps.at(-1);
  const patterns = steps.slice(0, -1).map((step) => {
    const isRead =
      step.type === "Split" && step.behavior === "Isolated" && !step.invert && typeof step.pattern.Regex === "string";
    if (!isRead) throw new Error(`its pre-tokenizer ${String(step.type).slice(0, 20)} cannot be read by this page`);
    return step.pattern.Regex;
  });
  if (last.type !== "ByteLevel" || last.add_prefix_space)
    throw new Error("its pre-tokenizer does not end with ByteLevel");
  return last.use_regex ? [...patterns, BYTE_LEVEL] : patterns;
}

// The ids before a text; a text's tokens must come last.
function readTemplate(processor) {
  if (processor?.type === "ByteLevel" || !processor) return [];
  if (processor.type !== "TemplateProcessing")
    throw new Error(`its post-processor ${String(processor.type).slice(0, 20)} cannot be read by this page`);
  const { single, special_tokens: tokens } = processor;
  if (!single.at(-1).Sequence || !single.slice(0, -1).every((piece) => piece.SpecialToken))
    throw new Error("it puts something behind a text");
  return single.slice(0, -1).flatMap((piece) => tokens[piece.SpecialToken.id].ids);
}

function split(text, pattern) {
  const pieces = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    if (!match[0]) continue;
    if (match.index > end) pieces.push(text.slice(end, match.index));
    pieces.push(match[0]);
    end = match.index + match[0].length;
  }
  if (end < text.length) pieces.push(text.slice(end));
  return pieces;
}

const isBefore = (a, b) => a.rank < b.rank || (a.rank === b.rank && a.left < b.left);

/** A binary heap of merges, the next one first. */
class Heap {
  items = [];

  push(item) {
    const { items } = this;
    let at = items.length;
    for (let above; at > 0 && isBefore(item, items[(above = (at - 1) >> 1)]); at = above) items[at] = items[above];
    items[at] = item;
  }

  pop() {
    const { items } = this,
      first = items[0],
      last = items.pop();
    if (!items.length) return first;
    let at = 0;
    for (let below; (below = 2 * at + 1) < items.length; at = below) {
      if (below + 1 < items.length && isBefore(items[below + 1], items[below])) below++;
      if (!isBefore(items[below], last)) break;
      items[at] = items[below];
    }
    items[at] = last;
    return first;
  }
}
