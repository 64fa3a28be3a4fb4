// Plays back what a model wrote while it was trained: a slider over its checkpoints and a button that moves it. The panel
// is part of the view's value (see playground/content/templates/model.html), which is replaced with the model or the
// language, so the listeners are on the root.

const PACE = 700; // milliseconds that a checkpoint is shown

export function createLearning({ element }) {
  let timer = 0;

  function show(panel) {
    const { label, answers } = JSON.parse(panel.dataset.learning)[panel.querySelector("input").value];
    panel.querySelector("output").textContent = label;
    panel.querySelector("input").setAttribute("aria-valuetext", label);
    panel.querySelectorAll("dd").forEach((answer, index) => (answer.textContent = answers[index]));
  }

  function pause(panel) {
    clearInterval(timer);
    timer = 0;
    const button = panel.querySelector("button");
    button.textContent = button.dataset.play;
  }

  function play(panel) {
    const button = panel.querySelector("button");
    const slider = panel.querySelector("input");
    button.textContent = button.dataset.pause;
    if (slider.value === slider.max) slider.value = 0;
    show(panel);
    timer = setInterval(() => {
      if (!panel.isConnected || slider.value === slider.max) return pause(panel);
      slider.stepUp();
      show(panel);
    }, PACE);
  }

  element.addEventListener("click", ({ target }) => {
    const panel = target.closest(".ax-learning");
    if (!panel || target.tagName !== "BUTTON") return;
    if (timer) pause(panel);
    else play(panel);
  });
  element.addEventListener("input", ({ target }) => {
    const panel = target.closest(".ax-learning");
    if (!panel) return;
    pause(panel);
    show(panel);
  });
}
