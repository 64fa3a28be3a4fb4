"""Others' edits are never lost, our sections are always complete, and conflicts are refused."""

import re

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from axion.errors import AxionError
from publish.check.card import sections
from publish.check.folder import Folder
from publish.hub.merge import merge_card
from publish.markdown import MarkerError, split_sections
from tests.publish.check.spoil import BOMB


def section(name, text):
    return f"<!-- axion:start {name} -->\n{text}\n<!-- axion:end {name} -->"


def card(metadata, texts):
    """A card as the release writes it: sections with a blank line between them."""
    body = "\n\n".join(section(name, text) for name, text in texts.items())
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---\n\n{body}\n"


METADATA = {"license": "mit", "language": ["en", "pt"], "tags": ["axion", "tiny"]}
TEXTS = {"summary": "# Axion\n\nA model.", "results": "## Results\n\n42 %", "licence": "## Licence\n\nMIT"}
BASE = card(METADATA, TEXTS)
NEW_TEXTS = TEXTS | {"results": "## Results\n\n57 %"}
OURS = card(METADATA, NEW_TEXTS)
REFUSAL = "the card on the Hub "


def after(name, passage, text=BASE):
    """A card with a reader's passage after a section."""
    marker = f"<!-- axion:end {name} -->\n"
    assert marker in text
    return text.replace(marker, f"{marker}\n{passage}\n")


def metadata_of(text):
    return yaml.safe_load(text.split("---\n")[1])


# --- Cards that nobody has edited -------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [BASE, None, OURS])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_card_with_the_same_content_is_replaced_by_ours(base, newline):
    assert merge_card(OURS, OURS.replace("\n", newline), base) == merge_card(OURS, OURS, None)
    assert merge_card(OURS, OURS, base).text == OURS and merge_card(OURS, OURS, base).kept == []


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_an_unedited_card_is_replaced_by_ours(newline, mark):
    merged = merge_card(OURS, mark + BASE.replace("\n", newline), BASE)
    assert (merged.text, merged.kept) == (OURS, [])


def test_blank_lines_and_the_order_of_keys_are_not_edits():
    theirs = BASE.replace("axion:end summary -->\n", "axion:end summary -->\n\n\n")
    theirs = theirs.replace("license: mit\n", "").replace("tags:", "license: mit\ntags:")
    assert merge_card(OURS, theirs, BASE).text == OURS


def test_an_unedited_card_without_sections_is_replaced():
    assert merge_card(OURS, "# The first release's card\n", "# The first release's card\n").text == OURS


# --- The text ---------------------------------------------------------------------------------------------------------


def test_a_readers_passage_stays_where_it_is():
    theirs = after("summary", "I like it.")
    merged = merge_card(OURS, theirs, BASE)
    assert merged.text == after("summary", "I like it.", OURS)
    assert merged.kept == ["1 passage"]


def test_passages_at_the_start_and_the_end_are_kept():
    theirs = BASE.replace("<!-- axion:start summary", "> Moved!\n\n<!-- axion:start summary") + "\n## Thanks\nto all"
    merged = merge_card(OURS, theirs, BASE)
    assert "---\n\n> Moved!\n\n<!-- axion:start summary" in merged.text
    assert merged.text.endswith("<!-- axion:end licence -->\n\n## Thanks\nto all")
    assert merged.kept == ["2 passages"]


def test_line_endings_of_the_browser_are_kept():
    theirs = after("summary", "Two\n\nlines.").replace("\n", "\r\n")
    merged = merge_card(OURS, theirs, BASE)
    assert merged.text == after("summary", "Two\n\nlines.", OURS).replace("\n", "\r\n")
    assert merge_card(OURS, merged.text, BASE) == merge_card(OURS, merged.text, OURS) == merged


def test_mixed_line_endings_in_a_passage_are_kept_byte_for_byte():
    theirs = after("summary", "one\r\ntwo\rthree \t\n\n\n").replace("A model.\n", "A model.\r\n")
    assert "one\r\ntwo\rthree \t\n\n\n" in merge_card(OURS, theirs, BASE).text


def test_a_new_section_comes_after_its_predecessor_and_the_passage_there():
    texts = {"summary": "# Axion", "usage": "## Usage", "results": TEXTS["results"], "licence": TEXTS["licence"]}
    base = card(METADATA, {name: text for name, text in texts.items() if name != "usage"})
    merged = merge_card(card(METADATA, texts), after("summary", "I like it.", base), base)
    names = re.findall(r"axion:start (\S+)|(I like it)", merged.text)
    assert ["".join(name) for name in names] == ["summary", "I like it", "usage", "results", "licence"]


def test_a_new_last_section_is_separated_from_a_passage_without_a_newline():
    merged = merge_card(card(METADATA, TEXTS | {"more": "## More"}), BASE + "Thanks", BASE)
    assert "Thanks\n\n<!-- axion:start more -->\n" in merged.text
    assert list(split_sections(merged.text).sections) == [*TEXTS, "more"]


def test_a_section_that_is_no_longer_written_is_removed_and_its_passage_kept():
    ours = card(METADATA, {name: text for name, text in TEXTS.items() if name != "results"})
    merged = merge_card(ours, after("results", "Well done!", after("summary", "I like it.")), BASE)
    assert "42 %" not in merged.text
    assert re.search(r"end summary -->\n\nI like it\.\n\n\n\nWell done!\n\n<!-- axion:start licence", merged.text)
    assert merged.kept == ["2 passages"]


def test_the_same_edit_on_both_sides_is_not_a_conflict():
    assert merge_card(OURS, BASE.replace("42 %", "57 %"), BASE).text == OURS


@pytest.mark.parametrize(
    ("theirs", "base", "message"),
    [
        (BASE.replace("42 %", "about 42 %"), BASE, "where the release has its own text: the section results$"),
        (BASE.replace("2 %", "3 %").replace("A mo", "My mo"), BASE, "the section summary, the section results$"),
        (BASE, card(METADATA, {"summary": "x"}), "own text: the section results$"),
        (BASE, None, "the section results$"),
        (BASE.replace(section("results", TEXTS["results"]), ""), BASE, "the section results, which was removed or has"),
        (re.sub("<!-- axion:.* results -->\n", "", BASE), BASE, "the section results, which .* lost its markers"),
        (re.sub("<!-- axion:.* -->\n", "", BASE), BASE, "its text, which has no sections"),
        (f"---\nlicense: mit\n---\n# Mine\n{'x' * 99}", None, "its text, which has no sections"),
        ("# Mine\n", None, "its text, which has no sections"),
        ("---\nlicense: mit\n---\n", BASE, "its text, which has no sections"),
        (BASE.replace("<!-- axion:end results -->\n", ""), BASE, "has an unexpected start of section licence"),
        (BASE.replace("<!-- axion:start results", "<!--axion:start results"), BASE, "a malformed section marker"),
        (BASE + section("summary", "x") + "\n", BASE, "section summary; section summary occurs twice"),
        (BASE + section("mine", "x") + "\n", BASE, "the section mine"),
        (BASE.replace("license: mit", "license: [mit"), BASE, "has front matter that cannot be read: while parsing a"),
        (BASE.replace("license: mit", "license: mit\nlicense: mit"), BASE, "the key 'license' is given twice$"),
        (BASE.replace("license: mit", BOMB), BASE, "has front matter that cannot be read: it has more than 100,000"),
        ("---\n- a list\n---\n", BASE, "has front matter that is not a YAML mapping"),
    ],
)  # fmt: skip
def test_changes_on_both_sides_are_refused_in_one_line(theirs, base, message):
    with pytest.raises(AxionError, match=message) as raised:
        merge_card(OURS, theirs, base)
    assert str(raised.value).startswith(REFUSAL) and "\n" not in str(raised.value)


def test_an_edited_section_that_is_no_longer_written_is_a_conflict():
    ours = card(METADATA, {name: text for name, text in TEXTS.items() if name != "results"})
    with pytest.raises(AxionError, match=r"the section results$"):
        merge_card(ours, BASE.replace("42 %", "43 %"), BASE)


def test_our_own_card_must_consist_of_sections():
    with pytest.raises(ValueError, match="text outside of its sections"):
        merge_card(OURS + "more", after("summary", "x"), BASE)
    with pytest.raises(MarkerError, match="has the start of section results but not its end"):
        merge_card(
            OURS.replace("<!-- axion:end results -->", "").split("<!-- axion:start licence")[0], BASE + "x", BASE
        )


# --- The front matter -------------------------------------------------------------------------------------------------


def edited(**changes):
    return card(METADATA | changes, TEXTS)


def test_others_keys_and_tags_are_kept():
    theirs = edited(widget=[{"text": "1 + 1 ="}], tags=["education", "axion", "tiny"], language="en", thumbnail="é")
    merged = merge_card(card(METADATA | {"pipeline_tag": "text-generation"}, NEW_TEXTS), theirs, BASE)
    assert metadata_of(merged.text) == {
        "license": "mit",
        "language": ["en", "pt"],
        "tags": ["axion", "tiny", "education"],
        "widget": [{"text": "1 + 1 ="}],
        "thumbnail": "é",
        "pipeline_tag": "text-generation",
    }
    assert list(metadata_of(merged.text))[-2:] == ["thumbnail", "pipeline_tag"] and "thumbnail: é\n" in merged.text
    assert merged.kept == ["tags education", "key widget", "key thumbnail"]


def test_a_date_of_others_is_kept():
    theirs = edited(tags=["axion", "tiny", "education"]).replace("license:", "released: 2026-11-27\nlicense:")
    merged = merge_card(OURS, theirs, BASE)
    assert "released: 2026-11-27\n" in merged.text and merged.kept == ["key released", "tags education"]
    rewritten = merge_card(
        card(METADATA | {"datasets": ["a/b"]}, TEXTS), theirs, BASE
    ).text  # since a key of ours is new
    assert metadata_of(rewritten)["released"] == "2026-11-27"


def test_unchanged_front_matter_is_kept_verbatim():
    theirs = BASE.replace("license: mit\n", "license:   mit  # as ever\ninference: no\n")
    merged = merge_card(OURS, theirs, BASE)
    assert merged.text == OURS.replace("license: mit\n", "license:   mit  # as ever\ninference: no\n")


def test_our_keys_are_updated_with_our_changes():
    ours = card({"license": "apache-2.0", "tags": ["axion"], "datasets": ["a/b"]}, TEXTS)
    theirs = edited(tags=["axion", "tiny", "maths"])
    merged = merge_card(ours, theirs, BASE)
    # language: we wrote it, nobody edited it, and we no longer write it; tiny: the same, in a list
    assert metadata_of(merged.text) == {"license": "apache-2.0", "tags": ["axion", "maths"], "datasets": ["a/b"]}
    assert merged.kept == ["tags maths"]


def test_others_additions_to_a_list_that_we_no_longer_write_are_kept():
    merged = merge_card(
        card({"license": "mit", "tags": ["axion", "tiny"]}, TEXTS), edited(language=["en", "pt", "de"]), BASE
    )
    assert metadata_of(merged.text)["language"] == ["de"] and merged.kept == ["key language"]


@pytest.mark.parametrize("base", [BASE, None])
@pytest.mark.parametrize("key", ["license", "model-index", "both"])
def test_a_key_changed_on_both_sides_is_a_conflict(base, key):
    theirs = (
        edited(license="gpl-3.0") if key == "license" else edited(**{"model-index": [{"name": "x", "results": []}]})
    )
    if key == "both":
        theirs = edited(**{"license": "gpl-3.0", "model-index": []})
    ours = card(METADATA | {"model-index": [{"name": "axion", "results": [1]}]} | {"license": "apache-2.0"}, TEXTS)
    with pytest.raises(AxionError, match="the key license" if key == "license" else "the key model-index") as raised:
        merge_card(ours, theirs, base)
    assert str(raised.value).startswith(REFUSAL)


def test_a_key_of_ours_that_was_removed_is_a_conflict():
    with pytest.raises(AxionError, match="the key license"):
        merge_card(OURS, BASE.replace("license: mit\n", ""), BASE)


@pytest.mark.parametrize(
    "empty", ["---\nlicense: mit\n---\n", "---\nlicense: mit\n---\n\n \n", "", "\n", "---\r\nlicense: mit\r\n---\r\n"]
)
def test_a_card_created_on_the_website_gets_our_text(empty):
    merged = merge_card(OURS, empty, None)
    assert (merged.text, merged.kept) == (OURS, [])


def test_a_card_created_on_the_website_keeps_its_own_keys():
    merged = merge_card(OURS, "---\nlicense: mit\ngated: auto\ntags: [mine]\n---\n", None)
    assert metadata_of(merged.text) == METADATA | {"gated": "auto", "tags": ["axion", "tiny", "mine"]}
    assert merged.text.endswith(OURS.split("---\n")[2])
    with pytest.raises(AxionError, match="the key license"):
        merge_card(OURS, "---\nlicense: gpl\n---\n", None)


def test_removed_front_matter_is_not_restored():
    with pytest.raises(AxionError, match="the key license"):
        merge_card(OURS, after("summary", "x").split("---\n")[2], BASE)


# --- Arbitrary cards --------------------------------------------------------------------------------------------------

NAMES = ["summary", "usage", "results", "limits", "licence"]
WORDS = st.text(alphabet="ab \n#*`-é", max_size=12).filter(lambda text: "---" not in text)
KEYS = st.dictionaries(
    st.sampled_from(["widget", "inference", "thumbnail"]), st.one_of(st.integers(), WORDS, st.lists(WORDS, max_size=2))
)


@st.composite
def our_cards(draw, names):
    texts = {name: draw(WORDS) for name in names}
    tags = draw(st.lists(st.sampled_from(["axion", "tiny", "cpu"]), unique=True))
    return card({"license": draw(st.sampled_from(["mit", "isc"])), "tags": tags}, texts)


@st.composite
def stories(draw):
    """What we wrote, a reader's version of it, what we would write now and what we would write after that."""
    names = st.lists(st.sampled_from(NAMES), unique=True, min_size=1).map(
        lambda chosen: [name for name in NAMES if name in chosen]
    )
    base = draw(our_cards(draw(names)))
    passages = draw(
        st.dictionaries(st.sampled_from(list(split_sections(base).sections)), WORDS.map(lambda text: f"\n{text}\n"))
    )
    theirs = base
    for name, passage in passages.items():
        theirs = theirs.replace(f"axion:end {name} -->\n", f"axion:end {name} -->\n{passage}")
    keys, tags = draw(KEYS), draw(st.lists(st.sampled_from(["maths", "fun"]), unique=True))
    data = metadata_of(base)
    data = data | {"tags": tags[:1] + data["tags"] + tags[1:]} | keys
    theirs = f"---\n{yaml.safe_dump(data, sort_keys=draw(st.booleans()))}---\n" + theirs.split("---\n", 2)[2]
    if draw(st.booleans()):
        theirs = theirs.replace("\n", "\r\n")
    return base, theirs, list(passages.values()), keys, tags, draw(our_cards(draw(names))), draw(our_cards(draw(names)))


@settings(max_examples=60)
@given(stories())
def test_nothing_from_either_side_is_lost(story):
    base, theirs, passages, keys, tags, ours, later = story
    merged = merge_card(ours, theirs, base)
    plain = merged.text.replace("\r\n", "\n")

    for passage in passages:
        assert passage.strip() in plain and (not passage.strip() or passage in plain)
    data = yaml.safe_load(plain.split("---\n")[1])
    assert keys.items() <= data.items() and set(tags) <= set(data["tags"])
    assert set(metadata_of(ours)["tags"]) <= set(data["tags"]) and data["license"] == metadata_of(ours)["license"]
    assert data.keys() == keys.keys() | metadata_of(ours).keys()
    assert set(data["tags"]) == set(tags) | set(metadata_of(ours)["tags"])
    assert split_sections(plain).sections == split_sections(ours).sections
    assert list(split_sections(plain).sections) == list(split_sections(ours).sections)
    assert bool(merged.kept) == bool(keys or tags or any(passage.strip() for passage in passages))

    for known in (base, ours):  # a section that is new to the base is not new the second time
        if split_sections(ours).sections.keys() <= split_sections(known).sections.keys():
            assert merge_card(ours, merged.text, known).text == merged.text
    final = merge_card(later, merged.text, ours)
    for passage in passages:
        assert passage.strip() in final.text.replace("\r\n", "\n")
    assert keys.items() <= yaml.safe_load(final.text.replace("\r\n", "\n").split("---\n")[1]).items()


@settings(max_examples=40)
@given(stories(), st.data())
def test_an_edit_inside_a_section_is_never_overwritten(story, data):
    base, theirs, *_, ours, _ = story
    name = data.draw(st.sampled_from(list(split_sections(base).sections)))
    theirs = theirs.replace(f"axion:start {name} -->", f"axion:start {name} -->\nEdited!", 1)
    assume("\r" not in theirs)
    try:
        assert "Edited!" in merge_card(ours, theirs, base).text
    except AxionError as error:
        assert f"the section {name}" in str(error)


@settings(max_examples=60)
@given(st.text(alphabet="-\n\ra: [&*<!>x", max_size=60), st.sampled_from([BASE, None]), st.integers(0, len(BASE)))
def test_any_published_card_is_merged_or_refused(text, base, place):
    for theirs in (text, BASE[:place] + text + BASE[place:], BASE[:place] + text):
        try:
            merged = merge_card(OURS, theirs, base)
        except AxionError as error:
            assert str(error).startswith(REFUSAL) and "\n" not in str(error)
        else:
            assert split_sections(merged.text.replace("\r\n", "\n")).sections == split_sections(OURS).sections


def test_a_merged_card_passes_the_checks_of_its_sections(tmp_path):
    (tmp_path / "README.md").write_text(merge_card(OURS, after("summary", "x"), BASE).text)
    assert list(sections(Folder(tmp_path))) == []
