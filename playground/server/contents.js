// The table of contents scrolls to a chapter: a plain link would leave the page, whose address Gradio gives another base.

export function start({ element }) {
  element.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    const chapter = link && element.ownerDocument.getElementById(link.hash.slice(1));
    if (!chapter) return;
    event.preventDefault();
    history.pushState(null, "", `${location.pathname}${location.search}${link.hash}`);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    chapter.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
    chapter.tabIndex = -1;
    chapter.focus({ preventScroll: true });
  });
}
