// The tabs and the chapters of the documentation have addresses, #chat and #doc-experts; Back and Forward walk through them.

const MOVES = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

export function createTabs(list) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
  const isChapter = (hash) => hash.startsWith("#doc-");
  const tabAt = (hash) => {
    const name = isChapter(hash) ? "api" : hash.slice(1);
    return tabs.find((tab) => tab.dataset.tab === name) ?? tabs[0];
  };

  function follow() {
    const chosen = tabAt(location.hash);
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", tab === chosen);
      tab.tabIndex = tab === chosen ? 0 : -1;
      panelOf(tab).hidden = tab !== chosen;
    }
    if (isChapter(location.hash)) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }

  list.addEventListener("click", ({ target }) => {
    const tab = target.closest("[role=tab]");
    if (tab && tab !== tabAt(location.hash)) location.hash = tab.dataset.tab;
  });
  list.addEventListener("keydown", (event) => {
    if (!(event.key in MOVES)) return;
    const at = tabs.indexOf(tabAt(location.hash)) + MOVES[event.key];
    const tab = tabs[Math.max(0, Math.min(tabs.length - 1, at))];
    location.hash = tab.dataset.tab;
    tab.focus();
    event.preventDefault();
  });
  addEventListener("hashchange", follow);
  follow();
  return { follow };
}
