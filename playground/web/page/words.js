// Texts of the page in the visitor's language. The fields of a text are filled as playground/locales does it.

const FIELD = /\{(\w+)(:plain)?\}/g;

/** Replaces each `{name}` of a text; `{name:plain}` writes a number without thousands separators. */
export function fillText(text, language, values = {}) {
  return text.replace(FIELD, (_, name, plain) => {
    const value = values[name];
    if (typeof value !== "number") return String(value);
    return new Intl.NumberFormat(language, { useGrouping: !plain, maximumFractionDigits: 20 }).format(value);
  });
}

/** The first known language of what a link names, what was chosen before, and what the browser prefers. */
export function chooseLanguage(known, fallback, ...asked) {
  const codes = asked.filter(Boolean).map((code) => code.trim().slice(0, 2).toLowerCase());
  return codes.find((code) => code in known) ?? fallback;
}

/** Sets every text and spoken name that the page's own HTML asks for by part and key. */
export function translatePage(texts, language) {
  const read = (place) => {
    const [part, key] = place.split(".");
    return texts[part][key];
  };
  document.documentElement.lang = language;
  document.title = texts.page.title;
  for (const node of document.querySelectorAll("[data-page-text]")) node.textContent = read(node.dataset.pageText);
  for (const node of document.querySelectorAll("[data-page-label]")) {
    node.setAttribute("aria-label", read(node.dataset.pageLabel));
    if (node.matches("button")) node.title = read(node.dataset.pageLabel);
  }
}

/** What the browser keeps under a name; null where it keeps nothing, or storage is blocked. */
export function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // storage is blocked: the choice lasts as long as the page
  }
}
