// The chosen token in full: asks the host once for each token that is looked at (see playground/generate/inspection.py).

const ANSWERS = 40; // answers that are kept

export function createCloseup(trace) {
  let answers = new Map(); // token index → promise of the answer

  function clear() {
    answers = new Map();
  }

  /** What the model computes when it reads this token; null where the host cannot find out. */
  function inspect(index) {
    const { run, tokens, host } = trace;
    if (!host.inspect || !tokens[index]) return Promise.resolve(null);
    if (!answers.has(index)) {
      const ids = tokens.slice(0, index + 1).map(({ step }) => step.id);
      const asked = { model: run.model, ids, at: index, num_loops: run.sampling.num_loops ?? 0, tampering: run.tampering };
      const asking = host.inspect(asked).then(check, () => null);
      const kept = answers;
      asking.then((answer) => answer || kept.delete(index)); // asked again next time
      if (answers.size >= ANSWERS) answers.delete(answers.keys().next().value);
      answers.set(index, asking);
    }
    return answers.get(index);
  }

  return { clear, inspect };
}

// A host answers an error as an object without what was asked for.
const check = (answer) => (answer?.attention ? answer : null);
