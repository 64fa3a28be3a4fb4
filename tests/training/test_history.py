"""history.json: what is recorded while a model trains, and that recording changes nothing else."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from axion.data.format import prompt
from axion.data.recipe import DataRecipe
from axion.data.sources.chat import CHAT_TEMPLATE
from axion.errors import AxionError
from axion.files import read_json, write_json
from axion.inference.stream import encode_prompt
from axion.release import open_release
from axion.training import history
from axion.training.history import CHAT, QUESTIONS, History, Prompt, history_prompts, write_greedily
from axion.training.recorder import Recorder
from axion.training.run import train
from tests.training.test_resume import unfinished_copy

RUN = (
    *("training.max_steps=12", "training.checkpoints=3"),
    *("architecture.dropout=0.1", "architecture.initializer_range=0.2"),
)
"""Evaluated after steps 4, 8 and 12. Dropout draws random numbers all the time; large weights prefer some tokens."""


@pytest.fixture(scope="module")
def recorded(tiny, folder, tmp_path_factory):
    """A run that records at every evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(history, "FEWEST_STEPS", 4)
        return train(tiny(*RUN), tmp_path_factory.mktemp("recorded") / "run")


def weights(run):
    return load_file(run / "final" / "model.safetensors")


def test_what_is_recorded(recorded):
    content = read_json(recorded / "history.json")
    assert [each["shown"] for each in content["prompts"]] == [question for question, _ in QUESTIONS]
    assert [each["text"].endswith("# Raciocínio:\n") for each in content["prompts"]] == [way for _, way in QUESTIONS]
    checkpoints = content["checkpoints"]
    assert [(each["step"], each["tokens"]) for each in checkpoints] == [(n, n * 4 * 64) for n in (0, 4, 8, 12)]
    assert checkpoints[0]["val_loss"] is None and checkpoints[1]["val_loss"] > checkpoints[3]["val_loss"]
    assert all(len(each["answers"]) == len(QUESTIONS) for each in checkpoints)
    assert checkpoints[0]["answers"] != checkpoints[3]["answers"]
    final = open_release(recorded / "final")
    assert final.history_file == recorded / "history.json"
    ids = [encode_prompt(final.tokenizer, each["text"]) for each in content["prompts"]]
    written = write_greedily(final.model, ids, {final.tokenizer.eos_token_id}, history.NEW_TOKENS)
    assert [final.tokenizer.decode(each, skip_special_tokens=True) for each in written] == checkpoints[3]["answers"]


def test_recording_does_not_change_the_training(recorded, tiny, tmp_path):
    plain = train(tiny(*RUN), tmp_path / "plain")
    assert not (plain / "history.json").exists()  # the run is too short
    expected = weights(plain)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(recorded).items())


def test_a_resumed_run_goes_on_with_its_history(recorded, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(history, "FEWEST_STEPS", 4)
    cut = unfinished_copy(recorded, tmp_path / "cut")
    for later in ("final", "checkpoint-12"):
        shutil.rmtree(cut / later)
    train(tiny(*RUN), cut, resume=True)  # what was recorded after step 8 is recorded again
    assert read_json(cut / "history.json") == read_json(recorded / "history.json")

    broken = unfinished_copy(recorded, tmp_path / "broken")
    shutil.rmtree(broken / "final")
    content = read_json(broken / "history.json")
    for wrong in ({"checkpoints": [{"step": "4"}]}, content | {"prompts": content["prompts"][1:]}):
        write_json(broken / "history.json", wrong)
        monkeypatch.setattr(Recorder, "on_step_end", lambda *_, **__: pytest.fail("it trains"))
        shutil.rmtree(broken / "checkpoint-12", ignore_errors=True)
        with pytest.raises(AxionError, match=r"history\.json is broken, or of other prompts; restore it"):
            train(tiny(*RUN), broken, resume=True)


def test_texts_of_different_length_are_written_as_each_alone(tiny_release):
    release = open_release(tiny_release)
    prompts = [encode_prompt(release.tokenizer, text) for text in ("7", "Quanto é 5 + 3?", "# Pergunta:\nQuanto")]
    alone = [
        release.model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=20)[0, len(ids) :].tolist()
        for ids in prompts
    ]
    assert write_greedily(release.model, prompts, set(), 20) == alone
    end = alone[1][7]
    until_end = [ids[: ids.index(end)] if end in ids else ids for ids in alone]
    assert write_greedily(release.model, prompts, {end}, 20) == until_end and len(until_end[1]) <= 7
    full = release.config.max_position_embeddings
    assert len(write_greedily(release.model, [[5] * (full - 3)], set(), 20)[0]) == 3


def test_the_prompts_are_of_the_kind_of_the_data(tiny_release, monkeypatch):
    tokenizer = open_release(tiny_release).tokenizer
    monkeypatch.setattr(tokenizer, "chat_template", CHAT_TEMPLATE)
    kind = SimpleNamespace(has_chats=True, has_problems=False)
    prompts = history_prompts(SimpleNamespace(data=kind, tokenizer=tokenizer), "tiny")
    assert [each.shown for each in prompts] == [*CHAT]
    assert all(each.shown in each.text and each.text.endswith("<|assistant|>") for each in prompts)

    asked = SimpleNamespace(data=DataRecipe(sources=({"kind": "events", "thinking": True},)), tokenizer=tokenizer)
    assert [each.text for each in history_prompts(asked, "tiny")] == [prompt(each, None) for each, _ in QUESTIONS]

    monkeypatch.setattr(history, "openings", lambda data, count: [f"Once {number}" for number in range(count)])
    kind.has_chats = False
    found = history_prompts(SimpleNamespace(data=kind, tokenizer=tokenizer), "tiny")
    assert found == [Prompt(f"Once {number}", f"Once {number}") for number in range(history.NUM_PROMPTS)]


def test_recordings_keep_a_distance_and_leave_out_what_does_not_fit(tiny_release, tmp_path, monkeypatch):
    release = open_release(tiny_release)
    long, short = Prompt("5 + 3 = " * 50, "long"), Prompt("5 + 3", "short")
    monkeypatch.setattr(history, "history_prompts", lambda *_: [long, short])
    kept = History(tmp_path, "tiny", SimpleNamespace(tokenizer=release.tokenizer), release.model, 250)
    assert kept.prompts == [short]
    kept.start(0)
    recorded = []
    for step in range(25, 251, 25):
        if kept.is_due(step):
            kept.record(step, step, 1.0)
            recorded.append(step)
    assert recorded == [150, 250]
    assert not release.model.training
