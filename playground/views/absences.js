// What the model loses without each of its experts, as a heat map: the prop `absences` is one JSON object (see
// playground/content/absences.py), which the event "measure" asks for.

import { makeExpertHead } from "./routing.js";
import { make } from "./toolkit.js";

const KINDS = ["nats_per_token", "accuracy"];

export function createAbsences(host, toolkit, terms) {
  const { props } = host;
  const { part, fill, count, threeDigits, precisePercent } = toolkit;
  let model = ""; // that is shown
  let experts = 0;
  let kind = KINDS[0];
  let waiting = false;
  let found = {}; // what was measured last; the prop is empty again after a change of the language

  /** Shows the section for another model, which has nothing measured yet. */
  function show(data) {
    part("absences").hidden = !data.layers;
    if (data.model !== model && found.error) found = {};
    if (data.model !== model) waiting = false;
    model = data.model;
    experts = data.experts;
    draw();
  }

  function read() {
    if (!props.absences) return;
    found = JSON.parse(props.absences);
    waiting = false;
    draw();
  }

  function draw() {
    const measured = model && found.model === model ? found : null;
    part("measure").disabled = waiting;
    part("measure").textContent = fill(waiting ? "measuring" : "measure");
    part("measure").hidden = Boolean(measured);
    part("absences-error").hidden = !found.error || waiting;
    part("absences-error").textContent = found.error ?? "";
    for (const name of ["absence-kinds", "absence-heat", "absences-whole"]) part(name).hidden = !measured;
    if (!measured) return;
    drawKinds();
    drawHeat(measured);
    const { documents, tokens, nats_per_token: nats, accuracy } = measured;
    const whole = { documents: count(documents), tokens: count(tokens), nats: threeDigits(nats), right: precisePercent(accuracy) };
    part("absences-whole").textContent = fill("absences_whole", whole);
    terms.mark(part("absences-whole"));
  }

  function drawKinds() {
    const group = part("absence-kinds");
    group.setAttribute("aria-label", fill("absence_kind"));
    const buttons = KINDS.map((value) => {
      const label = make("label", "", fill(`absence_${value}`));
      const radio = make("input", "");
      Object.assign(radio, { type: "radio", name: "axion-absence", checked: value === kind });
      radio.addEventListener("change", () => {
        kind = value;
        draw();
      });
      label.prepend(radio);
      return label;
    });
    group.replaceChildren(make("span", "ax-choice-name", fill("absence_kind")), ...buttons);
  }

  // A loss that grows and an accuracy that falls are both what the model loses.
  function drawHeat({ layers, absences }) {
    const lost = (cell) => (kind === "accuracy" ? -cell.accuracy : cell.nats_per_token);
    const most = Math.max(1e-9, ...absences.map(lost));
    const cells = new Map(absences.map((cell) => [`L${cell.layer}.E${cell.expert}`, cell]));
    const heat = part("absence-heat");
    heat.style.setProperty("--experts", experts);
    heat.setAttribute("aria-label", fill("absences"));
    const heads = Array.from({ length: experts }, (_, expert) => makeExpertHead("ax-expert", expert, experts));
    const rows = layers.map((layer) => [
      make("span", "", `L${layer}`),
      ...Array.from({ length: experts }, (_, expert) => drawCell(`L${layer}.E${expert + 1}`, cells)),
    ]);
    heat.replaceChildren(make("span", ""), ...heads, ...rows.flat());

    function drawCell(name, of) {
      const without = of.get(name);
      const cell = make("i", "", without ? write(lost(without)) : "–");
      const values = without && { expert: name, nats: signed(without.nats_per_token, threeDigits), points: write(-without.accuracy, "accuracy") };
      const label = without ? fill("absence_cell", values) : fill("absence_none", { expert: name });
      cell.style.setProperty("--heat", without ? Math.max(0, lost(without)) / most : 0);
      cell.title = label;
      cell.setAttribute("role", "img");
      cell.setAttribute("aria-label", label);
      return cell;
    }
  }

  const signed = (value, format) => `${value < 0 ? "−" : "+"}${format(Math.abs(value))}`;
  const write = (value, of = kind) =>
    of === "accuracy" ? `${value > 0 ? "−" : "+"}${precisePercent(Math.abs(value))}` : signed(value, threeDigits);

  part("measure").addEventListener("click", () => {
    waiting = true;
    draw();
    host.trigger("measure", { model });
  });
  host.watch("absences", read);

  return { show, draw };
}
