// The regular expressions of pre-tokenizers, written for Oniguruma, as JavaScript has them.

// White space as Unicode has it. JavaScript's \s has U+FEFF too, and lacks U+0085.
const SPACE = "\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

const OTHER_CASES = { s: "ſ", k: "\u212a" }; // letters outside of ASCII that fold to one of ASCII

// What means the same in both, after a backslash. \p{…} is copied whole.
const ESCAPES = new Set("rnt.*+?()[]{}|\\/^$-'");

/** Translates a pattern; throws an Error for syntax that it does not know. */
export function translatePattern(pattern) {
  let text = "",
    ignoring = 0,
    nested = 0; // how deep the group is that ignores case, and the current one
  for (let i = 0; i < pattern.length;) {
    const rest = pattern.slice(i);
    let [taken, written] = [rest[0], rest[0]];
    if (rest.startsWith("[")) [taken, written] = translateClass(rest, ignoring > 0);
    else if (rest.startsWith("(?i:")) {
      [taken, written] = ["(?i:", "(?:"];
      ignoring ||= nested + 1;
      nested++;
    } else if (/^\((?!\?[^:=!])/.test(rest)) {
      [taken] = rest.match(/^\((\?[:=!])?/);
      written = taken;
      nested++;
    } else if (rest[0] === "(") unknown(rest);
    else if (rest[0] === ")") {
      if (nested-- === ignoring) ignoring = 0;
    } else if (rest[0] === "\\") [taken, written] = translateEscape(rest, false);
    else if (/^(?:[*+?]|\{[\d,]+\})\+/.test(rest))
      unknown(rest); // possessive
    else if (/^\{[\d,]+\}/.test(rest)) [taken] = [written] = rest.match(/^\{[\d,]+\}/);
    else if (ignoring && /^[a-z]/i.test(rest)) written = `[${cases(rest[0])}]`;
    text += written;
    i += taken.length;
  }
  return new RegExp(text, "gu");
}

function translateClass(rest, ignoring) {
  let written = rest.startsWith("[^") ? "[^" : "[",
    i = written.length,
    spaces = 0;
  for (; rest[i] !== "]";) {
    if (i >= rest.length || rest[i] === "[" || rest.startsWith("&&", i)) unknown(rest);
    if (rest.startsWith("\\S", i) && written.includes(SPACE)) {
      spaces = 2; // with \s it is everything
      i += 2;
    } else if (rest[i] === "\\") {
      const [taken, text] = translateEscape(rest.slice(i), true);
      written += text;
      i += taken.length;
    } else {
      written += ignoring && /[a-z]/i.test(rest[i]) ? cases(rest[i]) : rest[i];
      i++;
    }
  }
  return [rest.slice(0, i + 1), spaces ? "[^]" : `${written}]`];
}

function translateEscape(rest, inClass) {
  const property = rest.match(/^\\[pP]\{\^?\w+\}/);
  if (property) return [property[0], property[0]];
  const two = rest.slice(0, 2);
  if (two === "\\s") return [two, inClass ? SPACE : `[${SPACE}]`];
  if (two === "\\S" && !inClass) return [two, `[^${SPACE}]`];
  if (!ESCAPES.has(two[1])) unknown(rest);
  return [two, two === "\\'" ? "'" : two];
}

const cases = (letter) => `${letter.toLowerCase()}${letter.toUpperCase()}${OTHER_CASES[letter.toLowerCase()] ?? ""}`;

function unknown(rest) {
  throw new Error(`the pattern has ${rest.slice(0, 12)}, which this page cannot read`);
}
