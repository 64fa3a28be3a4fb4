"""Local text in every form that is read: files and folders, compressed or not, and what is refused of them."""

import gzip
import json
import random

import pyarrow
import pytest
from pyarrow import parquet

from axion.cli import app, run
from axion.data.openings import opening
from axion.data.sources import Chat, Gsm8k, Text, base, named_sources
from axion.data.sources import files as files_module
from axion.data.sources.files import read_lines
from axion.data.split import Split
from axion.errors import AxionError
from axion.files import sha256
from axion.recipe import OwnText, load_recipe

STORIES = ["Once a fox.", "Once a crow.\n\nIt sang."]


def texts(*paths, **settings):
    source = Text(files=[str(path) for path in paths], **settings)
    return [document.text for document in source.documents(Split(0.3, 0, 0.0), 1)]


def write_parquet(path, **columns):
    parquet.write_table(pyarrow.table(columns), path)
    return path


def compress(path):
    (packed := path.with_name(path.name + ".gz")).write_bytes(gzip.compress(path.read_bytes()))
    return packed


@pytest.fixture
def forms(tmp_path):
    """The same two stories in every form, by suffix."""
    for suffix in ("txt", "md"):
        (tmp_path / f"a.{suffix}").write_text("<|endoftext|>".join(STORIES), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": story}) + "\n" for story in STORIES))
    write_parquet(tmp_path / "a.parquet", text=STORIES, other=[1, 2])
    plain = [tmp_path / f"a.{suffix}" for suffix in ("txt", "md", "jsonl", "parquet")]
    return [*plain, *map(compress, plain)]


def test_every_form_gives_the_same_documents(forms):
    for path in forms:
        assert texts(path) == STORIES, path.name
    assert [file["sha256"] for file in Text(files=[str(forms[4])]).released()["local_files"]] == [sha256(forms[4])]


def test_how_much_text_there_is_does_not_depend_on_its_form(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "SAMPLE_RECORDS", 200)
    stories = [f"Story {n} of a goat that ate grass by the river {n * n}." * (1 + n % 3) for n in range(2000)]
    size, noise = sum(map(len, stories)), ["https://example.org/" * 20] * len(stories)
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(stories))
    rows = [{"text": story, "url": url} for story, url in zip(stories, noise, strict=True)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    write_parquet(tmp_path / "a.parquet", text=stories, url=noise)
    plain, wrong = [tmp_path / f"a.{suffix}" for suffix in ("txt", "jsonl", "parquet")], []
    for paths in ([path] for path in [*plain, *map(compress, plain)]):
        source = Text(files=[str(path) for path in paths])
        assert abs(source.text_bytes(Split(0.05, 0, 0.0), 1) / size - 1) < 0.25, paths
        wrong.append(abs(source.num_bytes() / size - 1) > 0.5)
    assert wrong == [False, *[True] * 5]  # what the sizes of the files say
    (tmp_path / "digits.txt").write_text(random.Random(0).randbytes(2**21).hex())
    monkeypatch.setattr(files_module, "SAMPLE_BYTES", 2**21)
    assert abs(files_module.decompressed_bytes(str(compress(tmp_path / "digits.txt"))) / 2**22 - 1) < 0.15
    both = Text(files=[str(path) for path in plain[1:]])
    assert abs(both.text_bytes(Split(0.05, 0, 0.0), 1) / size - 2) < 0.25


def test_problems_and_conversations_are_read_from_parquet_too(tmp_path):
    write_parquet(tmp_path / "q.parquet", question=["1 + 1?"], answer=["It is 2.\n#### 2"])
    (problem,) = Gsm8k(files=str(compress(tmp_path / "q.parquet"))).problems()
    assert (problem.question, problem.answer) == ("1 + 1?", "2")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    write_parquet(tmp_path / "c.parquet", messages=[messages])
    (document,) = Chat(files=str(tmp_path / "c.parquet")).documents(Split(0.3, 0, 0.0), 1)
    assert document.text.endswith("<|assistant|>Hello!<|end|>")


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for name, story in {
        "b.txt": "b",
        "a/z.md": "a z",
        "c.jsonl": '{"text": "c"}',
        "a.TXT": "A",
        ".h.txt": "no",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(story)
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    assert texts(tmp_path) == ["A", "a z", "b", "c"]
    source = Text(files=[str(tmp_path)])
    assert source.files_passed_over() == {str(tmp_path): ["notes.pdf"]}
    assert source.data_name == "a.TXT and 3 other files" and source.description == f"text of {source.data_name}"
    assert [file["name"] for file in source.released()["local_files"]] == ["a.TXT", "z.md", "b.txt", "c.jsonl"]
    with pytest.raises(AxionError, match=r"b\.txt is listed twice"):
        texts(tmp_path, tmp_path / "b.txt")


def test_linked_folders_are_followed_without_running_in_circles(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for path in (root / "b" / "one.txt", elsewhere / "deep" / "two.txt"):
        path.parent.mkdir(parents=True)
        path.write_text(f"Story of {path.stem}.")
    (root / "a").symlink_to(elsewhere)
    (root / "0").symlink_to(root / "b")  # is read under its own name already
    (root / "b" / "up").symlink_to(root)
    (elsewhere / "again").symlink_to(elsewhere)
    assert Text(files=str(root)).local_paths() == [str(root / "a/deep/two.txt"), str(root / "b/one.txt")]


def test_every_line_end_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("axion.data.sources.files.PIECE_BYTES", 7)
    lines = [f"Line {n}." for n in range(8)] + ["", "A line that is longer than a piece.", "End."]
    path = tmp_path / "a.txt"
    for end in ("\n", "\r", "\r\n"):
        path.write_text(end.join(lines), newline="")
        assert [line.rstrip("\r\n") for line in read_lines(str(path))] == lines
        assert "".join(read_lines(str(path))) == end.join(lines)
        cut = texts(path, document_bytes=20)
        assert len(cut) == 2 and cut[0].split(end) == lines[:8]
    path.write_bytes(b"a\r\r\nb\n\rc\r")
    assert list(read_lines(str(path))) == ["a\r", "\r\n", "b\n", "\r", "c\r"]
    path.write_text('{"text": "One."}\r{"text": "Two."}')
    assert texts(path.rename(tmp_path / "a.jsonl")) == ["One.", "Two."]


def test_text_without_blank_lines_is_cut_between_lines(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"Line {n}." for n in range(8)))
    assert texts(tmp_path / "a.txt", document_bytes=6) == ["Line 0.\nLine 1.\nLine 2.", "Line 3.\nLine 4.\nLine 5.",
                                                          "Line 6.\nLine 7."]  # fmt: skip


def test_rows_without_text_are_left_out(tmp_path):
    assert texts(write_parquet(tmp_path / "a.parquet", text=["", "Once.", " "])) == ["Once."]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\x89PNG\r\n\x1a\n", r"a\.txt, line 1: not UTF-8 text"),
        ("a.txt", "Once".encode("utf-16-le"), "line 1: not UTF-8 text: it has a zero byte"),
        ("a.txt.gz", b"Once.", r"a\.txt\.gz cannot be decompressed: Not a gzipped file"),
        (
            "a.txt.gz",
            gzip.compress(b"Once upon a time. " * 99, mtime=0)[:-9],
            "cannot be decompressed: Compressed file ended",
        ),
        ("a.parquet", b"PAR1 no", r"a\.parquet cannot be read as Parquet"),
        ("a.parquet.gz", gzip.compress(b"no", mtime=0), r"a\.parquet\.gz cannot be read as Parquet"),
        ("a.pdf.gz", b"", r"cannot read \.pdf; give \.txt, \.md, \.jsonl or \.parquet, each also with \.gz"),
        ("a.jsonl", b"[1]", r"line 1: must be a JSON object such as \{\"text\": …\}"),
        ("a.jsonl", b'{"story": "Once."}', r"line 1: no field 'text'; the fields are story \(set text_field\)"),
        ("a.jsonl", b'{"text": null}', "line 1: field 'text' is None; it must be a text"),
    ],
)
def test_what_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AxionError, match=message) as caught:
        texts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_parquet_of_other_columns_is_refused(tmp_path):
    with pytest.raises(AxionError, match=r"a\.parquet, row 1: no field 'text'; the fields are story, n"):
        texts(write_parquet(tmp_path / "a.parquet", story=["Once."], n=[1]))


# --- The options --text, --name and --language ------------------------------------------------------------------------


def test_text_replaces_the_sources_of_a_recipe(forms, tmp_path):
    own = OwnText([str(forms[0]), "someone/tales@v2", str(forms[2])], "my-tales", ["pt"])
    recipe = load_recipe("axion1-v0.1", ["data.sources.0.document_bytes=99"], own)
    local, hub = recipe.data.sources
    assert local.files == [str(forms[0]), str(forms[2])] and local.document_bytes == 99
    assert (hub.hub_id, hub.revision, hub.language) == ("someone/tales", "v2", "pt")
    assert (recipe.name, recipe.title, recipe.repo_name, recipe.languages) == (*["my-tales"] * 3, ["pt"])
    assert recipe.data.holdout_fraction == 0 and not recipe.data.has_problems
    assert load_recipe("axion1-v0.1").data.has_problems


def test_settings_of_two_texts_need_their_numbers(forms):
    own = OwnText([str(forms[0]), "someone/tales"], "x")
    with pytest.raises(AxionError, match=r"there are 2 sources of kind text; write data\.sources\.0 for the first"):
        load_recipe("axion1-v0.1", ["data.sources.text.text_field=story"], own)
    recipe = load_recipe("axion1-v0.1", ["data.sources.1.text_field=story"], own)
    assert [source.text_field for source in recipe.data.sources] == ["text", "story"]
    released = recipe.data.model_validate(recipe.data.released()).with_local_copies(recipe.data)
    released = released.model_copy(
        update={"sources": [each.model_copy(update={"files": None}) for each in released.sources]}
    )
    with pytest.raises(AxionError, match=r"was read from a\.txt; give --set data\.sources\.0\.files=FILE"):
        next(released.sources[0].documents(Split(0.3, 0, 0.0), 1))
    assert released.sources[1]._advice("files") == "--set data.sources.1.files=FILE"
    assert load_recipe("axion1-v0.3").data.sources[-1]._advice("files") == "--set data.sources.text.files=FILE"


def test_a_name_is_a_path_before_it_is_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named_sources(Text, ["tales/grimm"]) == [{"kind": "text", "hub_id": "tales/grimm", "revision": None}]
    (tmp_path / "tales" / "grimm").mkdir(parents=True)
    assert named_sources(Text, ["tales/grimm"]) == [{"kind": "text", "files": ["tales/grimm"]}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "absent.txt", "--name", "x"], "no file or folder absent.txt; give one, or a data set on the Hub"),
        (["--text", "dir/absent.txt", "--name", "x"], "no file or folder dir/absent.txt"),
        (["--text", "empty", "--name", "x"], "the folder empty has no file that can be read; give .txt, .md, .jsonl"),
        (["--text", "a.txt"], "--text makes another model than the recipe's; give it a name of its own with --name"),
        (["--text", "a.txt", "--name", "My Tales"], "name is 'My Tales'; it must be at most 96 lower-case letters"),
        (["--text", "a.txt", "--name", "axion1-v0.1"], "--name axion1-v0.1 is the name of a recipe in configs/"),
        (
            ["--text", "a.txt", "--name", "x", "--language", "english"],
            "--language english is not a lower-case ISO",
        ),
        (["--text", "a.txt", "--name", "x"], "no validation documents; give the sources more data"),
    ],
)
def test_wrong_options_end_with_one_line(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("One short text.")
    assert run(app, ["train", "axion1-v0.1", *options]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and message in error[0]
    assert not (tmp_path / "runs").exists()


def test_files_that_are_not_read_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.pdf", "b.doc"):
        (tmp_path / name).write_text("x")
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(f"Story {n} of a fox." for n in range(200)))
    command = ["data", "axion1-v0.1", "--text", ".", "--name", "x", "--set", "tokenizer.vocab_size=300", "--out", "d"]
    assert run(app, command) == 0
    assert ".: 2 files are not read because of the suffix: a.pdf, b.doc" in capsys.readouterr().err


def test_the_opening_of_a_text():
    assert opening("The Fox\n\nOnce upon a time there was a fox " + "who ran " * 99) == (
        "The Fox\n\nOnce upon a time there was a fox who ran who ran who ran who ran who ran who ran"
    )
    assert opening("One two three four.") == "One two"
    assert opening("啊" * 400) == "啊" * 90
    assert [opening(text) for text in ("", "a", "ab", "a b")] == ["", "a", "a", "a"]
