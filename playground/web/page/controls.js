// The controls of sampling settings: each is a number, and beside it a slider for all but the seed.

/** The settings below a node, by name. */
export function createSettings(root) {
  const fields = new Map();
  for (const row of root.querySelectorAll("[data-setting]")) {
    const [number, slider] = [row.querySelector("[type=number]"), row.querySelector("[type=range]")];
    fields.set(row.dataset.setting, { row, number, slider });
    slider?.addEventListener("input", () => (number.value = slider.value));
    number.addEventListener("input", () => slider && (slider.value = number.value));
  }

  function write(settings) {
    for (const [name, { number, slider }] of fields) {
      if (!(name in settings)) continue;
      number.value = settings[name];
      if (slider) slider.value = settings[name];
    }
  }

  return {
    write,
    // An empty field is no number, which the check of the request refuses by name.
    read: () => Object.fromEntries([...fields].map(([name, { number }]) => [name, number.value === "" ? "" : Number(number.value)])),
    /** Shows the control of the loops for a looped model alone, and takes another's number back. */
    follow({ looped }) {
      if (!fields.has("num_loops")) return;
      fields.get("num_loops").row.hidden = !looped;
      if (!looped) write({ num_loops: 0 });
    },
  };
}

/** Buttons that fill a prompt with an example, or put its text into the form of the training data. */
export function createPresets(root, prompt, toProblem) {
  const form = root.querySelector("[data-part=as-problem]");
  form.addEventListener("click", () => (prompt.value = toProblem(prompt.value)));
  return {
    follow({ problems }, { presets }) {
      form.hidden = !problems;
      const buttons = presets.map(([name, text]) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = name;
        button.addEventListener("click", () => (prompt.value = text));
        return button;
      });
      root.querySelector("[data-part=presets]").replaceChildren(...buttons);
    },
  };
}
