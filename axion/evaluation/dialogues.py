"""Conversations of several turns: follow-up questions, corrections, small talk, questions that nobody can answer."""

from __future__ import annotations

from typing import get_args

from axion.data.sources.dialogue_turns import TurnKind
from axion.data.sources.dialogues import DialogueTest, dialogues_tests
from axion.data.templates import LANGUAGES
from axion.evaluation.answers import accuracy
from axion.evaluation.outcomes import OUTCOMES, Outcomes
from axion.evaluation.subject import NotApplicable, NotAvailable, Subject
from axion.inference.chat import ChatError, can_chat, fit_conversation
from axion.inference.stream import encode_prompt

PROMPTS = 50
"""Conversations of each kind and language."""
REPLY_TOKENS = 96
"""Enough for a reply, which may be the reasoning of up to four steps."""
SEED = 0


def measure_dialogues(subject: Subject) -> dict:
    """Right replies to the last message of conversations from sentences that training holds out.

    The model sees the whole conversation, with right replies to the earlier messages. `Expected.is_met_by` judges.
    """
    holdout = subject.data.holdout_fraction
    if not can_chat(subject.release.tokenizer):
        raise NotApplicable("the model was not taught to chat: it has no chat template")
    if not holdout:
        raise NotAvailable("data.holdout_fraction is 0: no pair of operands was held out to ask for")
    tests = [
        test
        for kind in get_args(TurnKind)
        for language in LANGUAGES
        for test in dialogues_tests(language, PROMPTS, SEED, holdout, kind)
    ]
    prompts = [_prompt(subject, test) for test in tests]
    replies = subject.answers(prompts, REPLY_TOKENS, label="dialogues")
    groups: dict[tuple[str, str], dict[str, bool]] = {}
    for test, [reply] in zip(tests, replies, strict=True):
        said = "\n".join(message["content"] for message in test.messages)
        groups.setdefault((test.kind, test.language), {})[said] = test.expected.is_met_by(reply)
    return {
        "scores": [
            {
                "kind": kind,
                "language": language,
                **accuracy(sum(met.values()), len(met)),
                OUTCOMES: [Outcomes.of_answers([*met], [*met.values()])],
            }
            for (kind, language), met in groups.items()
        ]
    }


def _prompt(subject: Subject, test: DialogueTest) -> list[int]:
    """As much of a conversation as fits the context; none of it where the last message alone is too long."""
    release = subject.release
    messages, context = [*test.messages], release.config.max_position_embeddings
    try:
        text, _ = fit_conversation(release.tokenizer, messages, release.name, context, REPLY_TOKENS)
    except ChatError as error:
        if error.problem == "long_question":
            return []
        raise
    return encode_prompt(release.tokenizer, text)
