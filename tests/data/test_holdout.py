"""Held-out operand pairs: which ones they are, how they are found in text, and that the training corpus has none."""

import random
import re

import pytest

from axion.data import holdout
from axion.data.format import REASONING, Problem
from axion.data.holdout import is_held_out, operand_pairs, shows_held_out
from axion.data.sources.arithmetic import PHRASINGS

ALL_PAIRS = [(a, b) for a in range(100) for b in range(a, 100)]


def test_about_the_requested_share_is_held_out():
    two_digits = [pair for pair in ALL_PAIRS if pair[1] > 9]
    for fraction in (0.05, 0.2):
        share = sum(is_held_out(*pair, fraction) for pair in two_digits) / len(two_digits)
        assert share == pytest.approx(fraction, rel=0.2)
    assert not any(is_held_out(*pair, 0.0) for pair in two_digits)


def test_order_does_not_matter_and_small_or_large_numbers_are_never_held_out():
    assert all(is_held_out(a, b, 0.3) == is_held_out(b, a, 0.3) for a, b in ALL_PAIRS)
    assert not any(is_held_out(a, b, 0.99) for a, b in ALL_PAIRS if b < 10)
    assert not is_held_out(100, 5, 0.99)


def test_held_out_pairs_are_the_same_everywhere():
    """A change here makes every published arithmetic score meaningless."""
    assert [pair for pair in ALL_PAIRS if is_held_out(*pair, 0.05)][:5] == [(0, 96), (1, 21), (1, 27), (1, 51), (1, 53)]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("5 + 3", [(5, 3)]),
        ("12-7=5", [(12, 7)]),
        ("9 - 4 - 2", [(9, 4), (4, 2)]),
        ("48/2 and 3*15", [(48, 2), (3, 15)]),
        ("12 x 30, 12x30, 12 × 30, 48 ÷ 6", [(12, 30), (12, 30), (12, 30), (48, 6)]),
        ("14 – 5 and 14 − 5", [(14, 5), (14, 5)]),
        ("$12 + $30 = R$ 12 + R$ 30", [(12, 30), (12, 30)]),
        ("1,200 + 15", [(1200, 15)]),
        ("5.00 + 12.50", []),
        ("$5.00 + $12.00", [(5, 12)]),
        ("0.5 * 30 and 30 * .5 and 2,5 + 12", []),
        ("20% * 50", [(20, 50)]),
        ("5 apples + 13 apples", [(5, 13)]),
        ("5 red apples + 13 green apples", [(5, 13)]),
        ("8s + 13 = 130 and 12km - 7km", [(8, 13), (12, 7)]),
        ("(12 + 34) * 5", [(12, 34)]),
        ("50 - (12 + 8)", [(50, 12), (12, 8)]),
        ("12 plus 7, 12 mais 7, 12 vezes 7", [(12, 7)] * 3),
        ("12 extra 7", []),
        ("in 2012, 15 people", []),
        ("11(4)=44 and 2( 16 )-8, $30(2)", [(11, 4), (2, 16), (30, 2)]),
        ("(11)(4), (11) (4), (11)4", [(11, 4)] * 3),
        ("11 (4 of them), f(4), 7(x), 11(4.5)", []),
        ("(12) + 5, ($12) - $5, 3(12)+5", [(12, 5), (12, 5), (3, 12)]),
        ("12·5 and 12 ⋅ 5", [(12, 5), (12, 5)]),
        ("12 multiplied by 5, 12 added to 5, 12 maçãs multiplicado por 5", [(12, 5)] * 3),
        ("The sum of 12 and 5 is 17; product of $12 apples and 5", [(12, 5), (12, 5)]),
        ("Qual é a soma de 12 e 5? A diferença entre 12 e 5", [(12, 5), (12, 5)]),
        ("Add 12 to 5. Take 5 apples away from 12. Subtraia 5 de 12.", [(12, 5), (5, 12), (5, 12)]),
        ("Some 12 people and 5 dogs, 12 and 5", []),
        ("12\n--\n# Resposta:\n34", []),
    ],
)
def test_operand_pairs(text, pairs):
    assert operand_pairs(text) == pairs


def test_shows_held_out():
    a, b = next(pair for pair in ALL_PAIRS if is_held_out(*pair, 0.05))
    assert shows_held_out(f"So Ann has {b} apples - {a} apples.", 0.05)
    assert not shows_held_out(f"So Ann has {b} and {a} apples, 5 + 3.", 0.05)
    assert shows_held_out(f"{'0' * 5000}{b} - {a}", 0.05)


@pytest.mark.parametrize("digits", [10, 5000])  # Python converts at most 4,300
def test_very_long_numbers_are_not_operands(digits):
    assert not shows_held_out(f"{'1' * digits} - 3, 3 + {'1' * digits}.0, {'1' * digits}({'2' * digits})", 0.05)


def scan(text: str) -> set[tuple[int, int]]:
    """Operand pairs, found independently of the product's code: word by word, without a regular expression for sums."""
    operators = set("+-–−*×/÷xX") | {"plus", "minus", "times", "mais", "menos", "vezes"}
    text = re.sub(r"(?<=\d),(?=\d\d\d(?!\d))", "", text)
    text = re.sub(r"(?<=\d)[xX](?=[\d $])", " x ", text)
    text = re.sub(r"(?<=\d)\((\d+)\)", r" * \1 ", text)  # a product without a sign
    tokens = [token for token in re.findall(r"\d*\.?\d+|[^\W\d_]+|\n|\S", text) if token not in "$(%"]
    found = set()
    for at, token in enumerate(tokens):
        if token not in operators or not 0 < at < len(tokens) - 1:
            continue
        # The preceding operand may have a unit of up to two words.
        before = next((word for word in reversed(tokens[max(at - 3, 0) : at]) if not word.isalpha()), "")
        numbers = [float(word) if re.fullmatch(r"\d*\.?\d+", word) else 0.5 for word in (before, tokens[at + 1])]
        if all(number.is_integer() for number in numbers):
            found.add((int(numbers[0]), int(numbers[1])))
    return found


def asked(document: str) -> set[tuple[int, int]]:
    """The two numbers of a short question without reasoning, in any wording: a plain sum, not a word problem."""
    question, direct, _ = document.partition("\n--\n# Resposta:\n")
    numbers = re.findall(r"\d+", question)
    bare = direct and REASONING not in document and len(numbers) == 2 and len(question.split()) <= 12
    return {(int(numbers[0]), int(numbers[1]))} if bare else set()


def test_every_phrasing_of_a_sum_is_detected():
    for phrasings in PHRASINGS.values():
        for phrasing in phrasings:
            question = phrasing.format(a=47, b=38)
            document = Problem(question, "85").document()
            assert {47, 38} in map(set, operand_pairs(question)), phrasing
            assert {47, 38} in [set(pair) for pair in asked(document)], phrasing


def test_the_independent_scan_finds_operand_pairs():
    assert scan("She has 48/2 = 24 and $1,200 x 3 but 5 apples + 13 apples.") == {(48, 2), (1200, 3), (5, 13)}
    assert scan("Quanto é 12 - 7?\n--\n# Resposta:\n5") == {(12, 7)}


def test_pairs_are_those_of_the_whole_text_at_once():
    """Only the parts of a text that have two numbers are searched, which gives the same pairs."""
    pieces = [
        *(
            "12",
            "5",
            "38",
            "7.5",
            "1,000",
            ".5",
            "5.00",
            "99",
            "(",
            ")",
            "+",
            " - ",
            "x",
            "*",
            "%",
            "R$",
            ".",
            ",",
            ". ",
        ),
        *(
            "plus ",
            " and ",
            "the sum of ",
            "add ",
            " to ",
            " red apples",
            ": ",
            '"',
            "\n",
            "times ",
            "!",
            "?",
            "'",
            ";",
        ),
        *("a soma de ", "some ", "e ", " away from ", "2(", "(12) + 5", "9 - 4 - 2", "٣٤", "²", "..", " "),
    ]
    rng, found = random.Random(1), 0
    for _ in range(10_000):
        text = "".join(rng.choices(pieces, k=rng.randrange(2, 10)))
        pairs = operand_pairs(text)
        assert pairs == holdout._pairs(text), text
        found += len(pairs)
    assert found > 1000
