"""Sources of real text: local files and data sets on the Hub, read record by record."""

import json
import os
from pathlib import Path

import pytest

from axion.data.sources import Chat, Gsm8k, Text, files, hub
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
        (GOOD + rb'{"question": "\ud83e", "answer": "2"}', "line 2: not JSON: a text has .*half of a surrogate pair"),
        (GOOD + b'{"question": "1", "question": "2"}', "line 2: not JSON: the key 'question' is given twice"),
        (GOOD + b'{"question": ' + b"9" * 5000 + b"}", "line 2: not JSON: .*digits"),
        (GOOD + b"[" * 100_000, "line 2: not JSON: it is nested too deeply"),
        (
            b'{"question": ' + b"[1," * 99 + b"1" + b"]" * 99 + b"}",
            r"'question' is \[1, \[1.{60,80}; it must be a text",
        ),
    ],
)
def test_errors_in_a_file(tmp_path, content, message):
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
    os.mkfifo(tmp_path / "absent.jsonl")
    for attempt in (lambda: documents(source), source.identity, source.released):
        with pytest.raises(AxionError, match=r"absent\.jsonl is not a regular file"):
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


def test_a_separator_may_have_line_breaks(tmp_path):
    stories = ["One.\nMore of one.", "Two.\n\nIts end.", "Three."]
    for separator in ("\n***\n", "\n\n\n", "\n--", "--\n"):
        joined = separator.join(stories)
        assert text(tmp_path / "a.txt", joined, separator=separator) == stories
        windows = text(tmp_path / "a.txt", joined.replace("\n", "\r\n"), separator=separator)
        assert [story.replace("\r\n", "\n") for story in windows] == stories
    assert text(tmp_path / "a.txt", "One.\n\nTwo.\n\n\n\nThree.", separator="\n\n") == ["One.", "Two.", "Three."]


def test_a_document_too_long_for_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_DOCUMENT_BYTES", 2**20)
    monkeypatch.setattr("axion.data.sources.text.MAX_DOCUMENT_BYTES", 2**20)
    with pytest.raises(AxionError, match=r"a\.txt, line 2: longer than 1 MiB; break it into several lines"):
        text(tmp_path / "a.txt", "One.\n" + "x" * (2**20 + 1))
    for lines in (long := f"{'x' * 1023}\n" * 1025, f"<|endoftext|>{long}"):
        with pytest.raises(AxionError, match=r"a\.txt: a document has reached 1 MiB at line 102\d; put blank lines"):
            text(tmp_path / "a.txt", lines, document_bytes=2**20)
    with pytest.raises(AxionError, match=r"a\.jsonl, line 1: longer than 1 MiB"):
        documents(Text(files=str(write_jsonl(tmp_path / "a.jsonl", [{"text": "x" * 2**20}]))))


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


def test_errors_in_text(tmp_path):
    for name, content, message in (
        ("a.pdf", b"x", r"a\.pdf: cannot read \.pdf; give \.txt, \.md, \.jsonl or \.parquet"),
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
def test_errors_in_a_conversation(tmp_path, messages, message):
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": messages}])
    with pytest.raises(AxionError, match=rf"a\.jsonl, line 1: .*{message}"):
        documents(Chat(files=str(path)))


# --- The Hub ----------------------------------------------------------------------------------------------------------

FIRST, SECOND, THIRD = "1" * 40, "2" * 40, "3" * 40


@pytest.fixture
def the_hub(monkeypatch, tmp_path):
    """A Hub whose default branch is at SECOND and whose tag v1 is at FIRST.

    A commit that was loaded is in the cache of `datasets`. The Hub's answer can be replaced by an error; as in the real
    library, the newest cached copy is then loaded, whatever revision was requested.
    """
    import datasets
    import huggingface_hub
    from huggingface_hub.errors import RemoteEntryNotFoundError

    class Hub:
        refs = {None: SECOND, "v1": FIRST}  # noqa: RUF012
        has_card = True
        error: Exception | None = None

        def __init__(self):
            self.loaded: list[str] = []
            self.resolved: dict[str | None, str] = {}

        def load_dataset(self, hub_id, config, split, revision):
            if not self.error:
                self.loaded.append(revision := revision or SECOND)
                return cache(tmp_path, revision)
            if not self.loaded:
                raise self.error
            return cache(tmp_path, self.loaded[-1])

        def hf_hub_download(self, api, hub_id, name, repo_type, revision=None):
            assert (name, repo_type) == ("README.md", "dataset")
            if not self.has_card:
                raise RemoteEntryNotFoundError("no card", response=response(404))
            if not self.error:
                self.resolved[revision] = self.refs[revision]
            if revision not in self.resolved:
                raise self.error
            return f"/cache/datasets--openai--gsm8k/snapshots/{self.resolved[revision]}/README.md"

        def dataset_info(self, api, hub_id, revision=None):
            if self.error:
                raise self.error
            return huggingface_hub.DatasetInfo(id=hub_id, sha=self.refs[revision])

    hub = Hub()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", hub.load_dataset)
    for name in ("hf_hub_download", "dataset_info"):
        method = getattr(hub, name)
        monkeypatch.setattr(huggingface_hub.HfApi, name, lambda *args, method=method, **named: method(*args, **named))
    return hub


def response(status: int):
    from httpx import Request, Response

    return Response(status, request=Request("GET", "https://huggingface.co"))


def cache(root: Path, commit: str):
    """Writes rows that contain their commit to the cache of `datasets` for this commit, and loads them."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    folder = root / "openai___gsm8k" / "main" / "0.0.0" / commit
    if not folder.is_dir():
        folder.mkdir(parents=True)
        splits = {}
        for split in ("train", "test"):
            with ArrowWriter(path=str(folder / f"gsm8k-{split}.arrow")) as writer:
                for number in range(3):
                    writer.write({"question": f"{commit} {split} {number}?", "answer": "1"})
                writer.finalize()
            splits[split] = {"name": split, "num_examples": 3, "dataset_name": "gsm8k"}
        fields = {name: {"dtype": "string", "_type": "Value"} for name in ("question", "answer")}
        info = {
            "dataset_name": "gsm8k",
            "config_name": "main",
            "version": "0.0.0",
            "features": fields,
            "splits": splits,
        }
        (folder / "dataset_info.json").write_text(json.dumps(info))
    return datasets.Dataset.from_file(str(folder / "gsm8k-train.arrow"))


def questions(source: Gsm8k, split="train") -> list[str]:
    return [problem.question for problem in source.problems(split)]


def no_connection() -> Exception:
    from huggingface_hub.errors import LocalEntryNotFoundError

    return LocalEntryNotFoundError("no connection")


def too_many_requests() -> Exception:
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError("429 Too Many Requests", response=response(429))


@pytest.mark.parametrize("has_card", [True, False])
def test_a_data_set_is_pinned_to_the_current_commit(the_hub, has_card):
    the_hub.has_card = has_card
    pinned = Gsm8k().pinned()
    assert pinned.revision == SECOND and Gsm8k(revision="v1").pinned().revision == FIRST
    assert questions(pinned) == [f"{SECOND} train {number}?" for number in range(3)]
    local = Gsm8k(files="a.jsonl")
    assert local.pinned() is local


@pytest.mark.parametrize("error", [no_connection, too_many_requests])
def test_without_a_response_from_the_hub_the_cached_copy_of_the_revision_is_used(the_hub, error):
    for revision in (SECOND, FIRST):  # the newest copy is not the one of the default branch
        assert questions(Gsm8k(revision=revision))
    Gsm8k().pinned(), Gsm8k(revision="v1").pinned()
    the_hub.error = error()
    assert Gsm8k().pinned().revision == SECOND and Gsm8k(revision="v1").pinned().revision == FIRST
    for commit in (FIRST, SECOND):
        for split in ("train", "test"):
            assert questions(Gsm8k(revision=commit), split)[0] == f"{commit} {split} 0?"
    with pytest.raises(AxionError, match="the cached copy is commit 111111111111, but the recipe pins 333333333333"):
        questions(Gsm8k(revision=THIRD))
    the_hub.resolved.clear()  # cached, but never resolved on this machine
    assert Gsm8k().pinned().revision == FIRST  # the newest
    with pytest.raises(AxionError, match="cannot load openai/gsm8k at the revision v1 from the Hub"):
        Gsm8k(revision="v1").pinned()


def test_a_broken_cached_copy_is_loaded_again(the_hub, tmp_path):
    assert questions(Gsm8k(revision=FIRST))
    (tmp_path / "openai___gsm8k" / "main" / "0.0.0" / FIRST / "dataset_info.json").write_text("{")
    assert questions(Gsm8k(revision=FIRST)) and the_hub.loaded == [FIRST, FIRST]


def test_a_data_set_that_cannot_be_loaded(the_hub, monkeypatch):
    from huggingface_hub.errors import RepositoryNotFoundError

    the_hub.error = ConnectionError("Couldn't reach\n'openai/gsm8k' on the Hub")
    advice = r"; --set data\.sources\.gsm8k\.files=FILE reads a local copy"
    with pytest.raises(
        AxionError, match=rf"openai/gsm8k from the Hub: Couldn't reach 'openai/gsm8k'.*{advice}"
    ) as caught:
        Gsm8k().pinned()
    assert "\n" not in str(caught.value)
    for source, setting in (
        (Gsm8k(), "gsm8k.test_files"),
        (Text(hub_id="a/b"), "text.files"),
        (Chat(hub_id="a/b"), ""),
    ):
        with pytest.raises(
            AxionError, match=rf"--set data\.sources\.{source.kind}\..*=FILE reads a local copy"
        ) as caught:
            list(source.problems("test") if isinstance(source, Gsm8k) else documents(source))
        assert setting in str(caught.value)
    the_hub.error = RepositoryNotFoundError("404: no such repository", response=response(404))
    with pytest.raises(AxionError, match="cannot load openai/gsm8k from the Hub: 404"):
        Gsm8k().pinned()
    monkeypatch.undo()
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
        (Gsm8k, problems(40), 2, "d64a9a934548c308"),
        (Text, [{"text": f"Story {n}."} for n in range(40)], 4, "4be91dde7c39229d"),
        (Chat, CHAT, 2, "a30c657a041cb2c5"),
    ],
)
def test_the_documents_match_their_version(tmp_path, kind, content, version, expected):
    """If you change the documents of the same files, increase the version of the source and update the digest."""
    source = kind(files=str(write_jsonl(tmp_path / "a.jsonl", content)))
    assert (source.version, digest(source)) == (version, expected)


def test_text_files_are_cut_as_in_their_version(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"Paragraph {n}." for n in range(400)), encoding="utf-8")
    assert (Text.version, digest(Text(files=str(path)))) == (4, "3784c35237c49ecf")


# --- Origin of the data -----------------------------------------------------------------------------------------------


def released(source):
    """The source as a release has it: without paths."""
    return type(source).model_validate(source.released())


@pytest.mark.parametrize("kind", [Gsm8k, Text, Chat])
def test_a_source_of_local_files_never_reads_the_hub_instead(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("axion.data.sources.base.read_hub", lambda *_: pytest.fail("read the Hub"))
    monkeypatch.setattr("axion.data.sources.base.resolve_revision", lambda *_: pytest.fail("asked the Hub"))
    mine = str(write_jsonl(tmp_path / "mine.jsonl", problems(3)))
    source = released(kind(hub_id="openai/gsm8k", files=mine))
    assert source.hub_id == "openai/gsm8k" and not source.is_from_hub and source.data_name == "mine.jsonl"
    assert source.pinned() is source
    with pytest.raises(AxionError, match=rf"was read from mine\.jsonl; give --set data\.sources\.{source.kind}\.files"):
        documents(source)
    if kind is Gsm8k:
        with pytest.raises(AxionError, match=r"names no test data; give --set data\.sources\.gsm8k\.test_files=FILE"):
            list(source.problems("test"))


def test_a_known_copy_is_recognised_as_the_data_set(gsm8k):
    train, test = str(gsm8k / "train.jsonl"), str(gsm8k / "test.jsonl")
    copy = Gsm8k(files=train, test_files=test)
    for source in (copy, released(copy)):
        assert source.is_from_hub and source.test_is_from_hub and source.data_name == source.test_name == "GSM8K"
    assert Gsm8k().data_name == "GSM8K" and Text(hub_id="a/b").data_name == "a/b" and Text().data_name == "text"
    wrong = Gsm8k(files=test, test_files=train)
    assert not wrong.is_from_hub and not wrong.test_is_from_hub
    assert (wrong.data_name, wrong.test_name) == ("test.jsonl", "train.jsonl")
    assert not Gsm8k(files=[train, test]).is_from_hub and not Gsm8k(hub_id=None, files=train).is_from_hub
    local = [{"name": name, "sha256": ""} for name in ("a.txt", "b.txt", "c.txt")]
    assert Text(local_files=local[:2]).data_name == "a.txt, b.txt"
    assert Text(local_files=local).data_name == "a.txt and 2 other files"


def test_settings_are_json():
    for source in (Gsm8k(), Text(), Chat()):
        assert json.loads(json.dumps(source.identity()))["version"] == source.version
