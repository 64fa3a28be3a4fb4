"""Rules for the model card."""

from pathlib import Path

import pytest

from publish.check import card as rules
from publish.check.lint import lint
from tests.publish.check.spoil import add, front, put, say, swap
from tests.publish.check.test_secrets import drawn

RESULT = "- dataset: {id: openai/gsm8k, task_id: gsm8k}\n  value: 1.3\n"
RESULT_FILE = ".eval_results/gsm8k.yaml"
CARD_LINE = r"README\.md {} \(line \d+\): "

BROKEN = [
    (rules.front_matter, swap("README.md", "---\n", "--\n"), r"README\.md has no front matter that is a YAML mapping"),
    (rules.front_matter, swap("README.md", "license:", "- license:"), "has front matter that cannot be read"),
    (
        rules.front_matter,
        swap("README.md", "license:", "license: ["),
        r"cannot be read \(while parsing a flow",
    ),
    (rules.front_matter, front("license", "mit\nlicense: mit"), r"cannot be read \(the key 'license' is given twice\)"),
    (
        rules.required_metadata,
        front("license", "MIT License"),
        CARD_LINE.format("has the license 'MIT License'") + "use",
    ),
    (rules.required_metadata, front("license", "other"), "has the license other without a license_name"),
    (rules.required_metadata, front("library_name", "pytorch"), "library_name 'pytorch' .*: write transformers"),
    (rules.required_metadata, front("pipeline_tag", "chat"), "has the pipeline_tag 'chat'"),
    (rules.languages_and_tags, front("language", "[EN, pt]"), "has the language 'EN'"),
    (rules.languages_and_tags, front("language", "no"), "has the language False"),
    (rules.languages_and_tags, front("tags", "[axion, 3]"), r"has the tags \['axion', 3\]"),
    (rules.repositories, front("datasets", "[./data/gsm8k]"), r"has './data/gsm8k' in datasets"),
    (
        rules.repositories,
        front("base_model", r"C:\\models\\a"),
        "in base_model",
        "has the base_model_relation None",
        "contains a path",
    ),
    (rules.base_model, front("base_model", "a/b"), "has the base_model_relation None: write adapter or finetune or"),
    (
        rules.repositories,
        front("new_version", "a/b/c"),
        "has 'a/b/c' in new_version .*write a repository id, USER/NAME",
    ),
    (
        rules.model_index,
        swap("README.md", "- name: Axion tiny\n", "- title: Axion\n"),
        "has an invalid model-index",
    ),
    (rules.model_index, swap("README.md", "value: 2.345", "value: .nan"), "has an invalid model-index"),
    (rules.eval_results, put(RESULT_FILE, RESULT + "  date: 2026-13-01\n"), "has invalid date in result 1"),
    (rules.eval_results, put(RESULT_FILE, "gsm8k: 1"), "gsm8k.yaml is not a list of results"),
    (rules.eval_results, put(RESULT_FILE, RESULT.replace("value: 1.3", "score: 1")), "has invalid keys in result 1"),
    (rules.eval_results, put(RESULT_FILE, RESULT + RESULT.replace("1.3", "high")), "has invalid value in result 2"),
    (
        rules.eval_results,
        put(RESULT_FILE, RESULT.replace(", task_id: gsm8k", "")),
        "has invalid dataset task_id in result 1",
    ),
    *[
        (
            rules.eval_results,
            put(RESULT_FILE, RESULT.replace("}", f", {key}: 7}}")),
            f"has invalid dataset {key} in result 1",
        )
        for key in ("config", "split", "revision")
    ],
    (rules.eval_results, put(RESULT_FILE, RESULT + "  verifyToken: 7\n"), "has invalid verifyToken in result 1"),
    (rules.model_index, swap("README.md", "config: main", "config: 7"), "has an invalid model-index"),
    (rules.eval_results, put(RESULT_FILE, RESULT + "  date: yesterday\n"), "has invalid date in result 1"),
    (rules.eval_results, put(RESULT_FILE, RESULT + "  source: {name: a}\n"), "has invalid source in result 1"),
    (rules.finished, say("[more information needed]\n"), r"has '\[more information needed\]' "),
    (rules.finished, say("{{ info.title }}\n"), r"has '{{ info.title }}' \(line \d+\): fill it in"),
    (rules.finished, say("{% if x %}\n"), "has '{% if x %}'"),
    (rules.finished, say("- TODO: numbers\n"), "has 'TODO'"),
    (rules.links, say("[the log](log.csv#x)\n"), r"links to 'log\.csv#x' .*there is no such file"),
    (rules.links, say('<img src="loss.png">\n'), r"links to 'loss\.png'"),
    (rules.links, say("[log]: ./log.csv\n"), r"links to './log\.csv'"),
    (rules.fences_closed, add("README.md", "```bash\nls\n"), "opens a block of code that is never closed"),
    (
        rules.snippets_compile,
        say("```python\nprint 1\n```\n"),
        "has a Python snippet that does not compile",
    ),
    (rules.snippets_compile, say("```py\nreturn 1\n```\n"), "has a Python snippet that does not compile"),
    (
        rules.snippets_pinned,
        say('```python\nAutoModel.from_pretrained("a/b", trust_remote_code=True)\n```\n'),
        CARD_LINE.format("trusts remote code without a revision") + "add revision=",
    ),
    (
        rules.snippets_pinned,
        say('```python\npipeline("text-generation", model="a/b", trust_remote_code=True)\n```\n'),
        "trusts remote code without a revision",
    ),
    (
        rules.sections,
        add("README.md", "<!-- axion:start spare -->\n"),
        "has the start of section spare but not its end",
    ),
    (
        rules.sections,
        add("README.md", "<!-- axion:end spare -->\n"),
        "has an unexpected end of section spare; markers must come in pairs",
    ),
    (
        rules.sections,
        add("README.md", "<!--axion:start Spare-->\n"),
        "has a malformed section marker",
    ),
    (
        rules.sections,
        add("README.md", 2 * "<!-- axion:start spare -->\n<!-- axion:end spare -->\n"),
        "has an unexpected start of section spare; section spare occurs twice",
    ),
]


@pytest.mark.parametrize(("rule", "change", "messages"), [(rule, change, words) for rule, change, *words in BROKEN])
def test_each_rule_alone_reports_its_problem(check_rule, rule, change, messages):
    check_rule(rule, change, messages)


def test_a_valid_card_has_no_problems(spoilt):
    folder = spoilt(
        say(
            "[web](https://example.org/TO_DO) [mail](mailto:a@b.c) [here](#results) `[x](y)`\n"
            "[log](./metrics.csv?raw=1)\n"
            "~~~markdown\n```python\nnot python, and [no](link)\n```\n~~~\n"
            "```bibtex\n@misc{a, title = {{Axion}}}\n```\n"
            '```python\nAutoModel.from_pretrained("a/b", revision="v1", trust_remote_code=True)\n'
            'AutoModel.from_pretrained("./a", trust_remote_code=True)\n'
            'AutoModel.from_pretrained("a/b", trust_remote_code=False)\n```\n',
        )
    )
    put(RESULT_FILE, RESULT + "  date: 2026-01-31\n  source: {url: https://example.org}\n  verifyToken: eyJ9\n")(folder)
    assert [str(problem) for problem in spoilt(lambda folder: None) and lint(folder)] == []


def test_others_text_between_our_sections_is_only_checked_for_secrets(spoilt):
    words = "TODO: see [my notes](notes.md)\n```python\nthis is no Python\n```\n"
    assert lint(spoilt(add("README.md", words))) == []
    (problem,) = lint(spoilt(add("README.md", words + f"hf_{drawn(34)}\n")))
    assert "contains a Hugging Face token" in str(problem)


def test_a_card_from_a_browser_passes(spoilt):
    """CRLF line ends, and a byte-order mark."""

    def retype(folder: Path):
        content = (folder / "README.md").read_bytes()
        (folder / "README.md").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))

    assert lint(spoilt(retype)) == []
