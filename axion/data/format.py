"""The plain-text form of a problem, the one that models read and write.

# Pergunta:
{question}
--
# Raciocínio:
{reasoning}
--
# Resposta:
{answer}

The direct form has no reasoning section. Headers are Portuguese, the problem Portuguese or English.
"""

import re
from dataclasses import dataclass, field

QUESTION = "# Pergunta:\n"
REASONING = "\n--\n# Raciocínio:\n"
ANSWER = "\n--\n# Resposta:\n"

_CALC_MARK = re.compile(r"<<([^<>]*)>>")


@dataclass(frozen=True)
class Problem:
    """One question with its answer, and the reasoning in between where there is one."""

    question: str
    answer: str
    reasoning: str | None = None
    calculations: str = field(default="", compare=False)
    """GSM8K's calculation marks, one a line: no part of the document, but they say which numbers it combines."""

    def document(self, direct: bool = False) -> str:
        """The whole text, without `<bos>` and `<eos>`; `direct` leaves the reasoning out."""
        reasoning = "" if direct or self.reasoning is None else REASONING + self.reasoning
        return QUESTION + self.question + reasoning + ANSWER + self.answer


def prompt(question: str, reasoning: bool = False) -> str:
    """What a model goes on from: the question, up to where the answer or the reasoning starts."""
    return QUESTION + question + (REASONING if reasoning else ANSWER)


def parse_answer(generated: str) -> str:
    """The answer in a generated text: the first line after the answer's header, or the first line where none is there.

    Dollar signs, thousands commas and a full stop are left out, so that "$1,200." and "1200" compare as equal.
    """
    answer = generated.rpartition(ANSWER.lstrip("\n"))[2].strip().split("\n")[0]
    return re.sub(r"(?<=\d),(?=\d{3})", "", answer.replace("$", "")).strip().rstrip(".")


def problem_from_gsm8k(question: str, answer: str) -> Problem:
    """GSM8K's form: calculation marks `<<48/2=24>>` in the reasoning, the answer after `####` on the last line.

    A text without `####` is taken as a bare answer.
    """
    reasoning, mark, final = answer.rpartition("####")
    reasoning = _CALC_MARK.sub("", reasoning).strip()
    calculations = "\n".join(_CALC_MARK.findall(answer))
    return Problem(question.strip(), final.strip(), reasoning if mark and reasoning else None, calculations)
