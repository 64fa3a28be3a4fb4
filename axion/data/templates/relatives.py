"""Which sentences are near relatives: a test must not ask what training asked in almost the same words."""

import re
from itertools import chain
from types import MappingProxyType

from axion.data.templates.careless import without_accents
from axion.data.templates.slots import NAMES

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)")
_NAMES = "|".join(chain.from_iterable(group for groups in NAMES.values() for group in groups))
_VALUE = re.compile(rf"\{{[^{{}}]+\}}|\d+|\b(?:{_NAMES})\b")
_CHOICE = re.compile(r"\[([^\[\]|]*)\|[^\[\]]*\]")
_WORD = re.compile(r"[^\W\d]+")
_CONTRACTED = re.compile(r"(?:n't|'(?:s|re|m|ll|ve))\b")
_LONG_FORM = MappingProxyType(
    {"n't": " not", "'s": " is", "'re": " are", "'m": " am", "'ll": " will", "'ve": " have"},
)
_SAME = MappingProxyType(
    {
        **dict.fromkeys(("he", "she", "ele", "ela"), "_"),
        **dict.fromkeys(("fewer", "less"), "more"),
        **{"minus": "plus", "menos": "mais", "quantas": "quantos"},
        **{"whats": "what is", "u": "you", "vc": "voce", "qto": "quanto", "q": "que", "pra": "para"},
        **{"calcula": "calcule", "resolve": "resolva", "faz": "faca", "diz": "diga", "soma": "some", "tira": "tire"},
        **{"subtrai": "subtraia", "multiplica": "multiplique", "divide": "divida"},
    }
)
"""Words that make relatives, not other sentences: opposites, shorter and longer forms."""
_EMPTY = re.compile(r"\b(?:please|so|and|ok|now|then|for me|por favor|para mim|e|entao|agora|ai) ?\b")
_OPERATOR = (
    r"x|plus|times|over|added to|take away|mais|vezes|somado com"
    r"|(?:divided|multiplied|dividido|multiplicado) (?:by|por)"
)
_EXPRESSION = re.compile(rf"_(?: (?:(?:{_OPERATOR}) )?_)+")


def kinship(text: str) -> str:
    """What is left of the last sentence of a text, usually its question, without all that differs between relatives.

    Without numbers, names, things and expressions, capitals, accents and punctuation, contractions, words that say
    nothing, and with one word for both of "more" and "fewer": "What's {a} + {b}, please?" and "What is {e}?" are both
    `what is _`.
    """
    sentence = _SENTENCE_END.split(text.strip())[-1]
    sentence = _CHOICE.sub(r"\1", _VALUE.sub(" _ ", sentence))
    sentence = without_accents(sentence.replace("’", "'")).casefold()
    sentence = _CONTRACTED.sub(lambda match: _LONG_FORM[match[0]], sentence)
    words = " ".join(_SAME.get(word, word) for word in _WORD.findall(sentence))
    return _EXPRESSION.sub("_", _EMPTY.sub("", words)).strip()
