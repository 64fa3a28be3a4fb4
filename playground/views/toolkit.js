// What every view shares: its parts, its texts, and numbers as the reader's language writes them.

/**
 * All that a view knows of the page around it.
 *
 * @typedef {object} Host
 * @property {HTMLElement} element The root of the view, which holds its template.
 * @property {object} props The current values: `texts`, `language`, `value`, and what else a view documents.
 * @property {(names: string | string[], callback: () => void) => void} watch Calls back after a change of one of these
 *   props, or of "busy".
 * @property {(event: "submit" | "stop" | "tamper" | "measure", data: object) => void} trigger Asks for a generation, or for the end of
 *   the one that runs. A submit may follow a stop immediately; the host delays it for as long as it has to. "tamper" asks for
 *   the generation of a changed model, whose events become the prop `tampered`; "measure" for the prop `absences`.
 * @property {(asked: object) => Promise<object>} [inspect] What the model computes when it reads one token of a text; see
 *   playground/generate/inspection.py for both objects. It rejects where nothing can be found out.
 * @property {"idle" | "waiting" | "running" | "stopped" | "refused"} busy The state of the generation that was asked for
 *   last, by the view or by controls outside of it. "stopped" and "refused" last until the next one.
 */

/** Functions that read and write one view's parts, texts and numbers. Text from a model is set as `textContent` only. */
export function createToolkit(/** @type {Host} */ host) {
  const { element, props, watch } = host;
  const formats = new Map();

  const formatter = (name, options) => (number) => {
    const key = `${props.language} ${name}`;
    if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(props.language, options));
    return formats.get(key).format(number);
  };
  const decimals = (digits) => ({ minimumFractionDigits: digits, maximumFractionDigits: digits });

  /** As many digits as the number has and no grouping: seeds, temperatures, ordinals. */
  const plain = formatter("plain", { useGrouping: false, maximumFractionDigits: 20 });
  /** A whole number with its thousands grouped. */
  const count = formatter("count", decimals(0));
  const oneDigit = formatter("1", decimals(1));
  const twoDigits = formatter("2", decimals(2));
  const threeDigits = formatter("3", decimals(3));
  const wholePercent = formatter("%", { style: "percent" });
  /** A share to a tenth of a percent. */
  const precisePercent = formatter("%1", { style: "percent", ...decimals(1) });
  /** A share to a tenth of a percent, where that is not zero. */
  const shortPercent = formatter("%~", { style: "percent", maximumFractionDigits: 1 });
  const twoDigitPercent = formatter("%2", { style: "percent", maximumSignificantDigits: 2 });
  /** A share to two digits, down to a ten-thousandth. */
  const finePercent = (share) => (share > 0 && share < 1e-4 ? `<${twoDigitPercent(1e-4)}` : twoDigitPercent(share));
  const compact = formatter("compact", { notation: "compact", maximumSignificantDigits: 4 });

  /** A share to a whole percent; what would round to nothing is said to be less than one. */
  function percent(share) {
    return share > 0 && share < 0.005 ? `<${wholePercent(0.01)}` : wholePercent(share);
  }

  /** Shares that make a whole, to whole percents that add up to 100; other shares are rounded one by one. */
  function percents(shares) {
    const whole = shares.reduce((sum, share) => sum + share, 0);
    if (Math.abs(whole - 1) > 0.005) return shares.map(percent);
    const points = shares.map((share) => Math.floor(100 * share));
    const missing = 100 - points.reduce((sum, point) => sum + point, 0);
    const byRest = shares.map((_, at) => at).sort((one, other) => 100 * (shares[other] - shares[one]) - (points[other] - points[one]));
    for (const at of byRest.slice(0, missing)) points[at]++;
    return points.map((point, at) => (point || !shares[at] ? wholePercent(point / 100) : percent(0.001)));
  }

  function bytes(size) {
    const units = ["B", "kB", "MB", "GB"];
    let unit = 0;
    for (; size >= 1000 && unit < units.length - 1; unit++) size /= 1000;
    return `${unit ? oneDigit(size) : size} ${units[unit]}`;
  }

  const part = (name) => element.querySelector(`[data-part="${name}"]`);

  /** The text called `key`, its placeholders filled in; a number that is not formatted yet becomes `plain`. */
  function fill(key, values = {}) {
    const show = (value) => (typeof value === "number" ? plain(value) : value);
    return props.texts[key].replace(/\{(\w+)\}/g, (_, name) => show(values[name]));
  }

  /** How the tokens of a generation are chosen. */
  function describeSampling({ temperature, seed }) {
    return temperature === 0 ? fill("greedy") : fill("seeded", { temperature, seed });
  }

  /** Sets the texts and spoken names that the template asks for by key. */
  function translate() {
    for (const node of element.querySelectorAll("[data-text]")) node.textContent = fill(node.dataset.text);
    for (const node of element.querySelectorAll("[data-label]")) node.setAttribute("aria-label", fill(node.dataset.label));
  }

  /** Makes white space visible where it could not be seen. */
  function visible(text) {
    return text.replace(/\n/g, "↵").replace(/^ | $/g, "␣") || fill("no_text");
  }

  /** Calls `read` once per animation frame, however many values came before it. */
  function watchValue(read) {
    let scheduled = false;
    watch("value", () => {
      if (scheduled) return;
      scheduled = true;
      requestAnimationFrame(() => {
        scheduled = false;
        read();
      });
    });
  }

  const numbers = { plain, count, oneDigit, twoDigits, threeDigits, percent, percents, precisePercent, shortPercent, finePercent, compact, bytes };
  return { part, fill, describeSampling, translate, visible, watchValue, ...numbers };
}

/** A new element with a class and a text. */
export function make(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

/** The events of the complete lines of `text` that come after its first `from` characters, and where the last line ends. */
export function readLines(text, from) {
  const end = text.lastIndexOf("\n") + 1;
  const lines = end > from ? text.slice(from, end).trimEnd().split("\n") : [];
  return { events: lines.map((line) => JSON.parse(line)), end: Math.max(from, end) };
}

/** Whether the reader asked for little motion. */
export const prefersCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export const NARROW = matchMedia("(max-width: 820px)");

/** How far a key moves along a row of tokens. */
export const KEY_STEPS = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };

/** The index of the token at an event, or -1. */
export const indexAt = (event) => Number(event.target.closest("[data-index]")?.dataset.index ?? -1);

/** Whether a box shows its end, or nearly so. */
export function isAtEnd(box, axis) {
  const hidden =
    axis === "x" ? box.scrollWidth - box.scrollLeft - box.clientWidth : box.scrollHeight - box.scrollTop - box.clientHeight;
  return hidden < 60;
}

export const FAR = 1e9; // a scroll position beyond the end of any box
