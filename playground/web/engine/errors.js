// What can go wrong and is said to a person, in one line.

/** A release's file is broken or does not fit the others; the message names it. */
export class ReleaseError extends Error {}

/** A mistake in a request. `mistake` is the key of its text in the part "errors" of playground/locales. */
export class Refusal extends Error {
  constructor(mistake, values = {}) {
    super(`${mistake} ${JSON.stringify(values)}`);
    this.mistake = mistake;
    this.values = values;
  }

  /** The mistake in one line, by a language's texts. */
  tell(texts, language = "en") {
    if (!texts?.[this.mistake]) return this.message;
    const values = "kind" in this.values ? { ...this.values, kind: texts[this.values.kind] } : this.values;
    const show = (value, plain) =>
      typeof value === "number"
        ? new Intl.NumberFormat(language, { useGrouping: !plain, maximumFractionDigits: 20 }).format(value)
        : value;
    return texts[this.mistake].replace(/\{(\w+)(:plain)?\}/g, (_, name, plain) => show(values[name], plain));
  }
}

/** An error in one line. Compiled code that finds no memory stops with an error of its own. */
export function oneLine(error) {
  if (error instanceof WebAssembly.RuntimeError) return "there is not enough memory for this model";
  return String(error?.message ?? error)
    .split("\n")[0]
    .slice(0, 200);
}
