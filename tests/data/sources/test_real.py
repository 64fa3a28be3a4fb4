"""Sources of real text: local files and data sets on the Hub, read record by record."""

import json

import pytest

from axion.data.sources import Chat, Gsm8k, Text, hub
from axion.data.split import Side, Split
from axion.errors import AxionError
from tests.data.conftest import digest, problems, write_jsonl

SPLIT = Split(fraction=0.3, seed=0, holdout_fraction=0.05)


def documents(source):
    return list(source.documents(SPLIT, 1))


# --- gsm8k ------------------------------------------------------------------------------------------------------------


def test_problems_of_local_files(tmp_path):
    first, second = write_jsonl(tmp_path / "a.jsonl", problems(3)), write_jsonl(tmp_path / "b.jsonl", problems(2))
    source = Gsm8k(files=[str(first), str(second)], test_files=str(second))
    read = list(source.problems())
    assert len(read) == 5 and len(list(source.problems("test"))) == 2
    assert (read[0].reasoning, read[0].answer) == ("Ana 0 has 5 + 3 = 8.", "8")
    write_jsonl(first, [{"q": "1 + 1?", "a": "2"}])
    (problem,) = Gsm8k(files=str(first), question_field="q", answer_field="a").problems()
    assert (problem.question, problem.answer, problem.reasoning) == ("1 + 1?", "2", None)


GOOD = b'{"question": "1 + 1?", "answer": "2"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.jsonl is empty"),
        (b"\n  \n", "a.jsonl is empty"),
        (GOOD + GOOD + b'{"question": "1 +', r"a\.jsonl, line 3: not JSON"),
        (GOOD + b"\n" + b"[1, 2]\n", r"a\.jsonl, line 3: must be a JSON object"),
        (b'{"question": "1 + 1?", "solution": "2"}\n', "line 1: no field 'answer'; the fields are question, solution"),
        (GOOD + b'{"question": "1 + 1?", "answer": null}\n', "line 2: field 'answer' is None; it must be a text"),
        (b'{"question": 7, "answer": "2"}\n', "line 1: field 'question' is 7"),
        (GOOD + b'{"question": " ", "answer": "2"}\n', "line 2: field 'question'"),
        (GOOD + b'{"question": "\xff"}\n', "line 2: not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(AxionError, match=message) as caught:
        documents(Gsm8k(files=str(path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [Gsm8k, Text, Chat])
def test_a_missing_file(tmp_path, kind):
    source = kind(files=str(tmp_path / "absent.jsonl"))
    for attempt in (lambda: documents(source), source.identity, source.released):
        with pytest.raises(AxionError, match=r"no file .*absent\.jsonl"):
            attempt()


# --- text -------------------------------------------------------------------------------------------------------------


def text(path, content, **settings):
    path.write_text(content, encoding="utf-8")
    return [document.text for document in documents(Text(files=str(path), **settings))]


def test_text_is_cut_at_the_separator(tmp_path):
    stories = ["One.\n\nMore of one.", "Two.", "Three."]
    for joined in ("\n<|endoftext|>\n".join(stories), "<|endoftext|>".join(stories) + "<|endoftext|>\n"):
        assert text(tmp_path / "a.txt", joined) == stories
    assert text(tmp_path / "a.md", "One.\n***\nTwo.\n", separator="***") == ["One.", "Two."]
    assert text(tmp_path / "b.txt", "\ufeffOlá.\r\n") == ["Olá."]


def test_text_without_a_separator_is_cut_at_blank_lines(tmp_path):
    paragraphs = [f"Paragraph {n}.\nIts second line." for n in range(6)]
    (document,) = text(tmp_path / "a.txt", "\n\n".join(paragraphs))
    assert document == "\n\n".join(paragraphs)
    assert text(tmp_path / "a.txt", "\n\n".join(paragraphs), document_bytes=40) == [
        "\n\n".join(paragraphs[start : start + 2]) for start in (0, 2, 4)
    ]


def test_records_of_text_and_several_files(tmp_path):
    records = write_jsonl(tmp_path / "a.jsonl", [{"story": "One <eos>."}, {"story": "Two."}])
    (tmp_path / "b.txt").write_text("Three.", encoding="utf-8")
    source = Text(files=[str(records), str(tmp_path / "b.txt")], text_field="story", language="en")
    read = documents(source)
    assert [document.text for document in read] == ["One <eos>.", "Two.", "Three."]
    assert {(document.language, document.source) for document in read} == {("en", "text")}


def test_the_split_of_text(tmp_path):
    stories = [f"Story {n} of two words." for n in range(100)] + [f"Sum {n}: 21 - 1." for n in range(100)]
    path = tmp_path / "a.txt"
    path.write_text("<|endoftext|>".join(stories), encoding="utf-8")
    read = documents(Text(files=str(path)))
    assert all((document.side is Side.VALIDATION) == SPLIT.is_validation(document.text) for document in read)
    assert {document.side for document in read[:100]} == {Side.TRAIN, Side.VALIDATION}
    assert {document.side for document in read[100:]} == {Side.DROPPED, Side.VALIDATION}
    free = Text(files=str(path)).documents(Split(0.3, 0, holdout_fraction=0), 1)
    assert Side.DROPPED not in {document.side for document in free}


def test_what_is_wrong_with_text(tmp_path):
    for name, content, message in (
        ("a.pdf", b"x", r"a\.pdf: cannot read \.pdf; give \.txt, \.md or \.jsonl"),
        ("a", b"x", "cannot read a file without a suffix"),
        ("a.txt", b" \n<|endoftext|>\n", r"a\.txt has no text"),
        ("a.txt", b"good\n\xff\n", r"a\.txt, line 2: not UTF-8"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AxionError, match=message):
            documents(Text(files=str(tmp_path / name)))
    with pytest.raises(AxionError, match="the text source names no data"):
        documents(Text())


# --- chat -------------------------------------------------------------------------------------------------------------


def test_conversations(tmp_path):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!", "name": "ignored"},
    ]
    (document,) = documents(Chat(files=str(write_jsonl(tmp_path / "a.jsonl", [{"messages": messages}]))))
    assert document.text == "<|system|>Be brief.<|end|><|user|>Hi<|end|><|assistant|>Hello!<|end|>"
    assert [span.text for span in document.spans if span.has_loss] == ["Hello!", "<|end|>"]
    assert document.is_masked and document.num_bytes == len("Hello!")


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (None, "'messages' must be a list"),
        (["Hi"], "'messages' must be a list"),
        ([{"role": "robot", "content": "Hi"}], "with the roles system, user, assistant"),
        ([{"role": "assistant", "content": 7}], "'messages' must be a list"),
        ([{"role": "user", "content": "Hi"}], "no message of the assistant"),
    ],
)
def test_what_is_wrong_with_a_conversation(tmp_path, messages, message):
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": messages}])
    with pytest.raises(AxionError, match=rf"a\.jsonl, line 1: .*{message}"):
        documents(Chat(files=str(path)))


# --- The Hub ----------------------------------------------------------------------------------------------------------

FIRST, SECOND = "1" * 40, "2" * 40


class Cached(list):
    """Rows as `datasets` gives them, loaded from the cache of a commit."""

    def __init__(self, rows, commit):
        super().__init__(rows)
        self.cache_files = [{"filename": f"/cache/openai___gsm8k/main/0.0.0/{commit}/gsm8k-train.arrow"}]


@pytest.fixture
def the_hub(monkeypatch):
    """A Hub whose default branch is at SECOND; it can be cut off, and then the cache has FIRST."""
    import datasets
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled

    class Hub:
        connected, asked = True, []

        def load_dataset(self, hub_id, config, split, revision):
            self.asked.append((hub_id, config, split, revision))
            return Cached(problems(3), (revision or SECOND) if self.connected else FIRST)

        def dataset_info(self, api, hub_id, revision=None):
            if not self.connected:
                raise OfflineModeIsEnabled("no connection")
            return huggingface_hub.DatasetInfo(id=hub_id, sha={None: SECOND, "v1": FIRST}[revision])

    hub = Hub()
    hub.asked = []
    monkeypatch.setattr(datasets, "load_dataset", hub.load_dataset)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *a, **k: hub.dataset_info(*a, **k))
    return hub


def test_a_data_set_is_pinned_to_the_commit_of_today(the_hub):
    pinned = Gsm8k().pinned()
    assert pinned.revision == SECOND and Gsm8k(revision="v1").pinned().revision == FIRST
    assert len(list(pinned.problems())) == 3
    assert the_hub.asked == [("openai/gsm8k", "main", "train", SECOND)]
    local = Gsm8k(files="a.jsonl")
    assert local.pinned() is local


def test_without_a_connection_the_cached_copy_is_used_if_it_is_the_pinned_one(the_hub):
    the_hub.connected = False
    pinned = Gsm8k().pinned()
    assert pinned.revision == FIRST and len(list(pinned.problems("test"))) == 3
    later = Gsm8k(revision=SECOND)
    assert later.pinned() == later
    with pytest.raises(AxionError, match="the cached copy is commit 111111111111, but the recipe pins 222222222222"):
        list(later.problems())


def test_a_data_set_that_cannot_be_had(the_hub, monkeypatch):
    import datasets
    from httpx import Request, Response
    from huggingface_hub.errors import RepositoryNotFoundError

    def absent(*_, **__):
        raise ConnectionError("Couldn't reach\n'openai/gsm8k' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", absent)
    the_hub.connected = False
    with pytest.raises(AxionError, match=r"openai/gsm8k from the Hub: .*--set data\.files=") as caught:
        Gsm8k().pinned()
    assert "\n" not in str(caught.value)

    def unknown(*_, **__):
        response = Response(404, request=Request("GET", "https://huggingface.co"))
        raise RepositoryNotFoundError("404: no such repository", response=response)

    monkeypatch.setattr(the_hub, "dataset_info", unknown)
    with pytest.raises(AxionError, match="cannot load openai/gsm8k from the Hub: 404"):
        Gsm8k().pinned()
    with pytest.raises(AxionError, match="cannot load not a name from the Hub"):
        hub.resolve_revision("not a name", None, None)


def test_an_empty_data_set(monkeypatch):
    monkeypatch.setattr(hub, "_load", lambda *_: [])
    with pytest.raises(AxionError, match=r"some/set \(train\) is empty"):
        documents(Text(hub_id="some/set"))


CHAT = [
    {"messages": [{"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": f"{n}!"}]}
    for n in range(9)
]


@pytest.mark.parametrize(
    ("kind", "content", "version", "expected"),
    [
        (Gsm8k, problems(40), 1, "d64a9a934548c308"),
        (Text, [{"text": f"Story {n}."} for n in range(40)], 1, "4be91dde7c39229d"),
        (Chat, CHAT, 1, "a30c657a041cb2c5"),
    ],
)
def test_the_documents_are_those_of_their_version(tmp_path, kind, content, version, expected):
    """Whoever changes the documents of the same files raises the version of the source, and then the digest."""
    source = kind(files=str(write_jsonl(tmp_path / "a.jsonl", content)))
    assert (source.version, digest(source)) == (version, expected)


def test_text_files_are_cut_as_in_their_version(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"Paragraph {n}." for n in range(400)), encoding="utf-8")
    assert (Text.version, digest(Text(files=str(path)))) == (1, "3784c35237c49ecf")


def test_settings_are_json():
    for source in (Gsm8k(), Text(), Chat()):
        assert json.loads(json.dumps(source.identity()))["version"] == source.version
