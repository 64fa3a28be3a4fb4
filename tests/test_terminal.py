"""What the terminal shows of a question: the prompt that it becomes, and an answer apart from what led to it."""

import shutil

import pytest

from axion.cli import app, run
from axion.data.format import CHOICE, prompt
from axion.errors import AxionError
from axion.inference.chat import Conversation
from axion.inference.sampling import Sampling
from axion.release import open_release
from axion.terminal import THOUGHT, ThoughtPrinter, asked_prompt
from playground.generate.catalogue import Catalogue
from playground.generate.chat import answer_prompt
from playground.generate.presets import first_prompt
from playground.generate.request import read_typed
from tests.support.measured import make_chatty

THINKING = "data:\n  sources:\n    - {kind: stories}\n    - {kind: phrasings, thinking: true}\n"


@pytest.fixture(scope="module")
def thinking(tiny_release, tmp_path_factory):
    """A release whose recipe taught it to choose between answering at once and thinking first."""
    folder = tmp_path_factory.mktemp("terminal") / "thinking"
    shutil.copytree(tiny_release, folder)
    (folder / "recipe.yaml").write_text(THINKING, encoding="utf-8")
    return open_release(folder)


def test_a_release_says_whether_it_thinks(thinking, tiny_release):
    assert thinking.thinks and not open_release(tiny_release).thinks


def test_a_question_takes_the_form_that_the_model_was_taught(thinking, tiny_release, tmp_path, monkeypatch):
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.delenv("LC_MESSAGES", raising=False)
    plain = open_release(tiny_release)
    for language, question in (("pt_BR.UTF-8", "Quanto é 5 + 3?"), ("C.UTF-8", "What is 5 + 3?")):
        monkeypatch.setenv("LANG", language)
        assert asked_prompt(thinking, "5+3") == prompt(question, reasoning=None)
        assert asked_prompt(plain, "5+3") == prompt(question)
    assert asked_prompt(thinking, "how much is 5+3") == f"# Pergunta:\nhow much is 5+3{CHOICE}"
    chatty = open_release(make_chatty(tiny_release, tmp_path / "chatty"))
    asked = "<|user|>5+3<|end|><|assistant|>"
    assert asked_prompt(chatty, "5+3") == asked_prompt(chatty, asked) == asked
    with pytest.raises(AxionError, match="the question is empty"):
        asked_prompt(thinking, " ")


def test_pages_and_conversations_leave_it_to_the_model(thinking):
    model = Catalogue([str(thinking.folder)]).open("thinking")
    assert answer_prompt(model, [{"role": "user", "content": "Tom has 5 apples."}]).endswith(f"apples.{CHOICE}")
    assert read_typed(model, *first_prompt(thinking, "en"), "en") == (
        f"# Pergunta:\nWhat is 5 + 3?{CHOICE}",
        "What is 5 + 3?",
    )
    conversation = Conversation(
        thinking.model, thinking.tokenizer, "x", Sampling(max_new_tokens=1), backend="torch", chooses=thinking.thinks
    )
    assert list(conversation.ask("5+3")) != [] and conversation.chooses


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("# Resposta:\n8", "8\n"),
        ("8", "8\n"),
        ("# Raciocínio:\n46-19\n16=9+7\n--\n# Resposta:\n27", f"{THOUGHT}46-19\n{THOUGHT}16=9+7\n27\n"),
        (
            "# Raciocínio:\n7+4=11;263+750;1\nAna has 5; she eats 2;3\n--\n# Resposta:\n27;1",
            f"{THOUGHT}7+4=11        263+750       1\n{THOUGHT}Ana has 5; she eats 2;3\n27;1\n",
        ),
        ("3-4\n-(4-3)\n--\n# Resposta:\n-1", "3-4\n-(4-3)\n-1\n"),
        ("#", "#\n"),
    ],
)
def test_what_was_thought_is_set_apart(written, shown, capsys):
    for pieces in ([*written], [written]):
        show = ThoughtPrinter()
        for piece in [*pieces, "\n"]:
            show(piece)
        assert capsys.readouterr().out == shown


def test_generate_asks(thinking, capsys):
    arguments = ["generate", str(thinking.folder), "5 + 3", "--ask", "--max-new-tokens", "3", "--backend", "torch"]
    assert run(app, arguments) == 0 and capsys.readouterr().out.endswith("\n")
    assert run(app, ["generate", str(thinking.folder), "", "--ask"]) == 2
    assert capsys.readouterr().err == "error: the question is empty; write something for the model to answer\n"
