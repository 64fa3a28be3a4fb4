// Tabs and chapters of the documentation have addresses, #chat and #doc-experts, and #tour-3 is in the first tab. Back and
// Forward walk through them. Ctrl and Enter in the prompt generate. The page's first link skips its head.

export function start(names) {
  const TAB = ".ax-tabs > .tab-wrapper :is([role=tab], .overflow-dropdown button)"; // a narrow page moves tabs into a menu
  const nameOf = (button) => Object.keys(names).find((name) => names[name].includes(button.textContent.trim()));
  const isChapter = (hash) => hash.startsWith("#doc-");
  const isTour = (hash) => hash.startsWith("#tour-"); // a step of the first tab's tour
  const nameAt = (hash) => (isChapter(hash) ? "api" : (!isTour(hash) && hash.slice(1)) || Object.keys(names)[0]);

  function follow() {
    const { hash } = location;
    const button = [...document.querySelectorAll(TAB)].find((each) => nameOf(each) === nameAt(hash));
    if (!button) return;
    if (button.getAttribute("aria-selected") !== "true") button.click();
    if (isChapter(hash)) reveal(hash.slice(1));
  }

  // The tab is drawn when it is first opened, and its formulas and tables grow for a while.
  function reveal(id) {
    const until = performance.now() + 1500;
    const scroll = (now) => {
      document.getElementById(id)?.scrollIntoView();
      if (now < until) requestAnimationFrame(scroll);
    };
    requestAnimationFrame(scroll);
  }

  document.querySelector(".ax-skip")?.addEventListener("click", (event) => {
    event.preventDefault();
    const panel = [...document.querySelectorAll(".ax-tabs > [role=tabpanel]")].find((each) => each.checkVisibility());
    panel.tabIndex = -1;
    panel.focus();
  });
  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.(TAB);
    const name = button && nameOf(button);
    // not "#chat" alone: Gradio gives the page's links another base
    if (name && name !== nameAt(location.hash)) history.pushState(null, "", `${location.pathname}${location.search}#${name}`);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !event.target.closest?.("#prompt")) return;
    event.preventDefault();
    document.getElementById("generate").click();
  });
  addEventListener("popstate", follow);
  follow();
}
