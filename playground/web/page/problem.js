// Puts a question into the form of a problem, as problem_prompt in axion/data/format.py does it; a test compares the two.

const SUM = /^([0-9]+) *([-+]) *([0-9]+)$/;
const ANY_SIGN = /^([0-9]+) *([-+*/x×÷:−]) *([0-9]+) *[=?]*$/;
const TYPED_SIGNS = { x: "*", "×": "*", "÷": "/", ":": "/", "−": "-" };

/**
 * @param {object} form The texts of a problem, from problem_form in content.py.
 * @param {string} question What was typed. A bare sum becomes a question; a text that starts with `# ` stays as it is.
 * @param {boolean} chooses Whether the model was taught to choose between answering at once and thinking first.
 * @param {string} language That of the question about a bare sum.
 */
export function problemPrompt(form, question, chooses, language = "pt") {
  let asked = question.trim();
  if (!asked || asked.startsWith("# ")) return question;
  const sum = (chooses ? ANY_SIGN : SUM).exec(asked);
  if (sum) {
    const [, left, sign, right] = sum;
    const parts = [left, TYPED_SIGNS[sign] ?? sign, right];
    asked = form.sums[language].replace(/\{\}/g, () => parts.shift());
  }
  return form.question + asked + (chooses ? form.choice : form.answer);
}
