"""What a model loses without each expert, over the held-out documents of its release."""

import json
import shutil

import pytest

from axion.errors import AxionError
from axion.evaluation import experts
from axion.inference.stream import encode_prompt
from axion.release import open_release
from playground.content import absences
from playground.content.absences import absences_json
from playground.generate.catalogue import Catalogue

TEXTS = ["Quanto é 1 + 1?\n2\n", "um\u2028dois", "# Pergunta:\n" * 80]


@pytest.fixture(scope="module")
def folder(tiny_release, tmp_path_factory):
    folder = shutil.copytree(tiny_release, tmp_path_factory.mktemp("held") / "held")
    lines = [json.dumps({"text": text, "source": "x"}, ensure_ascii=False) + "\n" for text in TEXTS]
    (folder / "heldout.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def opened(folder):
    return Catalogue([str(folder)]).open(folder.name)


def test_the_loss_and_the_right_tokens_without_each_expert_are_measured_once(folder, monkeypatch):
    model = opened(folder)
    measured = json.loads(absences_json(model))
    release = open_release(folder)
    eos = release.tokenizer.eos_token_id
    ids = [[*encode_prompt(release.tokenizer, text), eos] for text in TEXTS]
    expected = experts.measure_absences(release.model, ids)
    assert measured == {"model": "held", "experts": 4, "layers": [1, 2], **expected}
    assert measured["documents"] == 3 and measured["tokens"] < 3 * 128
    monkeypatch.setattr(absences, "measure_absences", None)
    assert json.loads(absences_json(model)) == measured


def test_what_cannot_be_measured_is_said(folder, tiny_release, tmp_path, monkeypatch):
    bare = shutil.copytree(tiny_release, tmp_path / "bare")
    with pytest.raises(
        AxionError, match=r"bare has no held-out documents \(heldout.jsonl\); python -m publish refresh"
    ):
        absences_json(opened(bare))
    (bare / "heldout.jsonl").write_text('{"text": 1\n')
    with pytest.raises(AxionError, match=r"bare: heldout\.jsonl is broken"):
        absences_json(opened(bare))
    monkeypatch.setattr(absences, "MOST_WORK", 10)
    with pytest.raises(AxionError, match="held is too large to be measured here; python -m axion eval"):
        absences_json(opened(folder))
