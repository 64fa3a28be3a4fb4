// The words of the field: a term in a text of the page is a button that says in a sentence or two what it means.

import { make } from "./toolkit.js";

const NOTE_GAP = 6; // pixels between a term and its explanation

/**
 * Explains terms in the texts of a view.
 *
 * @param {Host} host Its prop `terms` lists {forms, text, chapter}: how the term is written, what it means, and the chapter
 *   of the documentation that says more. Without that prop nothing is explained.
 */
export function createTerms(host) {
  const { element, props } = host;
  const note = make("div", "av-term-note");
  note.setAttribute("popover", "auto"); // Escape and a click elsewhere close it
  note.setAttribute("role", "note");
  element.append(note);

  /** Makes the first occurrence of each term in `node` a button. Its text stays as it is. */
  function mark(node) {
    const known = new Map((props.terms ?? []).flatMap((term) => term.forms.map((form) => [form.toLowerCase(), term])));
    if (!known.size) return;
    const longestFirst = [...known.keys()].sort((one, other) => other.length - one.length).map(escape);
    const word = new RegExp(`(?<![\\p{L}\\p{N}])(?:${longestFirst.join("|")})(?![\\p{L}\\p{N}])`, "giu");
    const marked = new Set();
    for (const text of textsOf(node)) {
      const parts = [];
      let end = 0;
      for (const { 0: found, index } of text.data.matchAll(word)) {
        const term = known.get(found.toLowerCase());
        if (marked.has(term)) continue;
        marked.add(term);
        parts.push(text.data.slice(end, index), makeButton(found, term));
        end = index + found.length;
      }
      if (parts.length) text.replaceWith(...parts, text.data.slice(end));
    }
  }

  function makeButton(found, term) {
    const button = make("button", "av-term", found);
    button.type = "button";
    button.addEventListener("click", () => open(button, term));
    return button;
  }

  function open(button, { text, chapter }) {
    note.replaceChildren(make("p", "", text));
    if (chapter) {
      const link = make("a", "", props.terms_more);
      link.href = `${location.pathname}${location.search}#doc-${chapter}`;
      link.addEventListener("click", () => note.hidePopover());
      note.append(link);
    }
    note.showPopover();
    const at = button.getBoundingClientRect();
    const room = document.documentElement.clientWidth - note.offsetWidth - NOTE_GAP;
    const below = at.bottom + NOTE_GAP + note.offsetHeight <= innerHeight;
    note.style.left = `${Math.max(NOTE_GAP, Math.min(at.left, room))}px`;
    note.style.top = `${below ? at.bottom + NOTE_GAP : at.top - NOTE_GAP - note.offsetHeight}px`;
  }

  /** Explains the terms in all texts that the template marks with `data-terms`. */
  function markAll() {
    for (const node of element.querySelectorAll("[data-terms]")) mark(node);
  }

  addEventListener("scroll", () => note.matches(":popover-open") && note.hidePopover(), { passive: true });

  return { mark, markAll, isOpen: () => note.matches(":popover-open") };
}

// The texts below a node that are not part of a button already.
function textsOf(node) {
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) if (!walker.currentNode.parentElement.closest("button")) texts.push(walker.currentNode);
  return texts;
}

const escape = (form) => form.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
