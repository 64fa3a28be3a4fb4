"""The models that visitors can choose, and the command-line options that set them."""

import json
import shutil
import subprocess
import sys

import pytest

from axion.errors import AxionError
from axion.params import report
from axion.release import list_releases
from playground.api.mcp import Tools
from playground.generate.catalogue import Catalogue
from playground.server.launch import parse
from tests.playground.conftest import ROOT


@pytest.fixture
def catalogue(releases):
    return Catalogue([str(releases / name) for name in ("broken", "plain")])


def test_named_models_come_first_under_their_folder_names(catalogue):
    assert catalogue.names == ["broken", "plain", *list_releases()]
    assert catalogue.default() == "plain"  # the first one that can be opened


@pytest.mark.parametrize("name", ["endless", "../plain", "someone/else", "", None, 3, ["plain"]])
def test_nothing_else_can_be_opened(catalogue, name):
    with pytest.raises(AxionError, match="does not offer"):
        catalogue.open(name)


def test_a_broken_release_is_reported_in_one_line(catalogue):
    with pytest.raises(AxionError, match=r"broken: config\.json") as caught:
        catalogue.open("broken")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "trace", [{}, {"steps": 3}, {"steps": [], "prompt": 1, "sampling": {}}, {"steps": [{"e": []}]}]
)
def test_a_broken_example_is_reported(releases, tmp_path, trace):
    shutil.copytree(releases / "plain", tmp_path / "odd")
    (tmp_path / "odd" / "trace.json").write_text(json.dumps(trace))
    with pytest.raises(AxionError, match=r"odd: trace\.json is broken"):
        Catalogue([str(tmp_path / "odd")]).open("odd")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_commit_of_the_hub_is_shown_by_its_first_digits():
    assert Catalogue([f"someone/model@{COMMIT}"]).names[0] == "someone/model@01234567"


@pytest.mark.parametrize("revision", ["", "@main", "@v0.1", f"@{COMMIT[:8]}", f"@{COMMIT}0"])
def test_a_hub_id_must_name_its_commit(revision):
    with pytest.raises(AxionError, match="not pinned"):
        Catalogue([f"someone/model{revision}"])


def test_a_path_is_not_a_valid_choice(catalogue, releases):
    with pytest.raises(AxionError):
        catalogue.open(str(releases / "plain"))


def test_a_named_release_that_does_not_exist_is_a_usage_error():
    for reference in ("axion9", "./nowhere", "/no/where/at/all"):
        with pytest.raises(AxionError, match="no release"):
            Catalogue([reference])


def test_equal_folder_names_get_distinct_model_names(releases, tmp_path):
    shutil.copytree(releases / "plain", tmp_path / "plain")
    names = Catalogue([str(releases / "plain"), str(tmp_path / "plain")]).names
    assert names[:2] == ["plain", "plain (2)"]
    for run in ("one", "other"):  # the models of runs are named after the runs
        shutil.copytree(releases / "plain", tmp_path / run / "final")
        (tmp_path / run / "run.json").touch()
    assert Catalogue([str(tmp_path / run / "final") for run in ("one", "other")]).names[:2] == ["one", "other"]


def test_facts_are_counted(catalogue):
    model = catalogue.open("plain")
    counted = report("plain", model.release.config)
    assert (model.facts.total, model.facts.active) == (counted["total"], counted["active"])
    assert model.facts.cache_bytes == counted["cache"]["bytes_per_token"]
    assert (model.facts.layers, model.facts.first_layer, model.facts.experts) == (2, 1, 4)
    assert catalogue.open("plain") is model


def test_facts_are_given_without_loading_a_model_or_downloading_it(releases, monkeypatch):
    catalogue = Catalogue([*(str(releases / name) for name in ("talkative", "plain")), f"someone/model@{COMMIT}"])
    expected = [(catalogue.open(name).facts, name == "talkative") for name in ("talkative", "plain")]
    catalogue = Catalogue([*(str(releases / name) for name in ("talkative", "plain")), f"someone/model@{COMMIT}"])
    monkeypatch.setattr("axion.release.Release._model", property(lambda _: pytest.fail("a model was loaded")))
    monkeypatch.setattr("axion.release._download", lambda *_: pytest.fail("a model was downloaded"))
    assert [catalogue.facts_for_program(name) for name in catalogue.names[:3]] == [*expected, None]
    assert [model["name"] for model in Tools(catalogue).list_models()["models"]] == catalogue.names


def test_numbers_that_json_cannot_represent_are_reported(releases, tmp_path):
    shutil.copytree(releases / "plain", tmp_path / "odd")
    trace = (tmp_path / "odd" / "trace.json").read_text()
    (tmp_path / "odd" / "trace.json").write_text(trace.replace('"p": null', '"p": NaN'))
    with pytest.raises(AxionError, match=r"odd: trace\.json cannot be read: NaN is not valid JSON"):
        Catalogue([str(tmp_path / "odd")]).open("odd")


def test_a_home_folder_is_expanded_and_duplicates_are_offered_once(releases, monkeypatch):
    monkeypatch.setenv("HOME", str(releases))
    assert Catalogue(["~/plain", str(releases / "plain")]).names == ["plain", *list_releases()]


def test_a_folder_elsewhere_does_not_hide_a_release_of_that_name(releases, tmp_path):
    shutil.copytree(releases / "plain", tmp_path / "axion1-v0.1")
    catalogue = Catalogue([str(tmp_path / "axion1-v0.1")])
    assert catalogue.names == ["axion1-v0.1", "axion1-v0.1 (2)"]
    assert catalogue.open("axion1-v0.1").facts.total != catalogue.open("axion1-v0.1 (2)").facts.total


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--port", "0"], ["--nonsense"], ["extra"], ["--models"]])
def test_bad_arguments_are_reported_in_one_line(arguments):
    with pytest.raises(AxionError) as caught:
        parse(arguments)
    assert "\n" not in str(caught.value)


def test_a_space_listens_on_all_interfaces(monkeypatch):
    assert parse([]).host == "127.0.0.1"
    monkeypatch.setenv("SYSTEM", "spaces")
    for models in ("one two", "one,two", "one, two\n"):
        monkeypatch.setenv("AXION_MODELS", models)
        assert (parse([]).host, parse([]).models) == ("0.0.0.0", ["one", "two"])
    assert parse(["--host", "127.0.0.1", "--models", "a", "b"]).models == ["a", "b"]


def test_bad_arguments_end_with_exit_code_2():
    done = subprocess.run([sys.executable, "app.py", "--port", "x"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("app.py: ")
