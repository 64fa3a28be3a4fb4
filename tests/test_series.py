"""The series: a version with a release is released, one with a recipe is counted, and each has its predecessor."""

import pytest

from axion import series as series_module
from axion.errors import AxionError
from axion.params import count_parameters
from axion.recipe import known_versions, load_recipe
from axion.series import collection_title, families, predecessor, series, walk


@pytest.fixture
def three(monkeypatch, tmp_path):
    """A series of three, of which the first and the last are released and have the bundled recipe."""
    planned = "".join(
        f"  - {{name: axion1-v0.{n}, title: Planned {n}, repo_name: Planned-{n}, nominal_parameters: {n}000}}\n"
        for n in (2, 3)
    )
    (tmp_path / "axion1.yaml").write_text(f"title: Three\nversions:\n  - axion1-v0.1\n{planned}")
    monkeypatch.setattr(series_module, "SERIES", tmp_path)
    for listed in ("known_versions", "list_releases"):
        monkeypatch.setattr(series_module, listed, lambda: ["axion1-v0.1", "axion1-v0.3"])
    bundled = load_recipe("axion1-v0.1")
    recipes = {
        name: bundled.model_copy(update={"name": name, "title": name}) for name in ("axion1-v0.1", "axion1-v0.3")
    }
    monkeypatch.setattr(series_module, "load_recipe", recipes.__getitem__)
    return tmp_path


def test_every_recipe_is_listed_in_its_series_unless_it_is_for_debugging():
    listed = [member.name for family in families() for member in series(family)]
    assert sorted(listed) == [name for name in known_versions() if not name.endswith("-debug")]
    assert [member.name for member in walk()] == listed
    for family in families():
        assert {load_recipe(member.name).family for member in series(family)} == {family}


def test_axion1_matches_the_design():
    members = series("axion1")
    assert [member.version for member in members] == ["0.1", "0.2", "0.3", "0.4", "0.5"]
    sizes = [member.parameters for member in members]
    assert sizes == sorted(sizes)
    assert len({member.repo_name for member in members}) == len(members)
    assert collection_title("axion1") == "Axion1"
    assert families() == ["axiom-dense", "axion1", "mini-axion1", "nano-deepseek-v3"]


def test_a_version_with_a_recipe_is_described_by_it_and_released_with_its_release(monkeypatch):
    monkeypatch.setattr(series_module, "list_releases", lambda: ["axion1-v0.2"])
    members = series("axion1")
    assert [member.released for member in members] == [False, True, False, False, False]
    for member in members[:2]:
        recipe = load_recipe(member.name)
        counts = count_parameters(recipe.build_config())
        assert (member.title, member.repo_name, member.version) == (recipe.title, recipe.repo_name, recipe.version)
        assert (member.parameters, member.active, member.is_counted) == (counts.total, counts.active, True)
    assert predecessor("axion1-v0.4").name == "axion1-v0.2"


def test_a_release_is_found_in_the_working_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert not series("mini-axion1")[0].released
    folder = tmp_path / "releases" / "mini-axion1-0.9m"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    assert series("mini-axion1")[0].released


def test_a_version_without_a_recipe_is_described_by_the_list(three):
    planned = series("axion1")[1]
    assert (planned.title, planned.repo_name, planned.version) == ("Planned 2", "Planned-2", "0.2")
    assert (planned.released, planned.parameters, planned.active, planned.is_counted) == (False, 2000, None, False)


def test_the_predecessor_is_the_preceding_released_version(three):
    assert predecessor("axion1-v0.1") is None and predecessor("elsewhere") is None
    assert predecessor("axion1-v0.2").name == predecessor("axion1-v0.3").name == "axion1-v0.1"
    assert [member.name for member in walk()] == ["axion1-v0.1", "axion1-v0.3"]


@pytest.mark.parametrize("text", ["title: x", "title: x\nversions: [{name: axion1-v1}]", "a: [", "- x"])
def test_a_broken_list_is_reported_in_one_line(three, text):
    (three / "axion1.yaml").write_text(text)
    with pytest.raises(AxionError, match=r"axion1\.yaml is broken") as caught:
        series("axion1")
    assert "\n" not in str(caught.value)


def test_a_named_version_without_a_recipe_is_an_error(three, monkeypatch):
    monkeypatch.setattr(series_module, "load_recipe", load_recipe)
    (three / "axion1.yaml").write_text("title: x\nversions: [axion1-v9.9]")
    with pytest.raises(AxionError, match=r"no recipe named 'axion1-v9\.9'"):
        series("axion1")


def test_an_unknown_family_lists_the_known_ones():
    with pytest.raises(AxionError, match="no series 'axion9'; known: axiom-dense, axion1"):
        series("axion9")
