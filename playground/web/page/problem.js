// Puts a question into the form of a problem, as problem_prompt in axion/data/asking.py does it; a test compares the two.
// A question in words keeps them here: what reads it as a calculation there knows all templates of the training data.

const BARE = /^([0-9]+) *([-+*/x×÷:−]) *([0-9]+) *[=?]*$/;
const HEADING = /^# *(Question|Reasoning|Answer):[ \t]*$/gm;
const TAUGHT_TO_ALL = ["+", "-"];
const TYPED_SIGNS = { x: "*", "×": "*", "÷": "/", ":": "/", "−": "-" };

/**
 * @param {object} form The texts of a problem, from problem_form in content.py.
 * @param {string} question What was typed. Its lines are joined, and a bare sum becomes a question; a text that starts with
 *   `# ` is in the form already.
 * @param {boolean} chooses Whether the model was taught to choose between answering at once and thinking first.
 * @param {string} language That of the question about a bare sum.
 */
export function problemPrompt(form, question, chooses, language = "pt") {
  let asked = question.trim().replace(/\s+/g, " ");
  if (!asked) return question;
  if (asked.startsWith("# ")) return question.replace(HEADING, (_, name) => `# ${form.headings[name]}:`);
  const [, left, typed, right] = BARE.exec(asked) ?? [];
  const sign = TYPED_SIGNS[typed] ?? typed;
  if (left !== undefined && (chooses || TAUGHT_TO_ALL.includes(sign))) {
    const parts = [left, sign, right];
    asked = form.sums[language].replace(/\{\}/g, () => parts.shift());
  }
  return form.question + asked + (chooses ? form.choice : form.answer);
}
