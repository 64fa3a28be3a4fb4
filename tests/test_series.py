"""The series: released versions are counted, planned ones are listed, and each has its predecessor."""

import pytest

from axion import series as series_module
from axion.errors import AxionError
from axion.params import count_parameters
from axion.recipe import known_versions, load_recipe
from axion.series import collection_title, families, predecessor, series, walk


@pytest.fixture
def three(monkeypatch, tmp_path):
    """A series of three, of which the first and the last are released, with the bundled recipe."""
    planned = "".join(
        f"  - {{name: axion1-v0.{n}, title: Planned {n}, repo_name: Planned-{n}, nominal_parameters: {n}000}}\n"
        for n in (2, 3)
    )
    (tmp_path / "axion1.yaml").write_text(f"title: Three\nversions:\n  - axion1-v0.1\n{planned}")
    monkeypatch.setattr(series_module, "SERIES", tmp_path)
    monkeypatch.setattr(series_module, "known_versions", lambda: ["axion1-v0.1", "axion1-v0.3"])
    bundled = load_recipe("axion1-v0.1")
    recipes = {
        name: bundled.model_copy(update={"name": name, "title": name}) for name in ("axion1-v0.1", "axion1-v0.3")
    }
    monkeypatch.setattr(series_module, "load_recipe", recipes.__getitem__)
    return tmp_path


def test_every_recipe_is_listed_in_its_series():
    for name in known_versions():
        assert name in [member.name for member in series(load_recipe(name).family) if member.released]


def test_axion1_matches_the_design():
    members = series("axion1")
    assert [member.version for member in members] == ["0.1", "0.2", "0.3", "0.4", "0.5"]
    sizes = [member.parameters for member in members]
    assert sizes == sorted(sizes)
    assert len({member.repo_name for member in members}) == len(members)
    assert collection_title("axion1") == "Axion1" and families() == ["axion1"]


def test_a_released_version_is_described_by_its_recipe():
    recipe = load_recipe("axion1-v0.1")
    counts = count_parameters(recipe.build_config())
    first = series("axion1")[0]
    assert (first.title, first.repo_name, first.version) == (recipe.title, recipe.repo_name, recipe.version)
    assert (first.parameters, first.active) == (counts.total, counts.active)


def test_a_planned_version_is_described_by_the_list(three):
    planned = series("axion1")[1]
    assert (planned.title, planned.repo_name, planned.version) == ("Planned 2", "Planned-2", "0.2")
    assert (planned.released, planned.parameters, planned.active) == (False, 2000, None)


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


def test_a_released_version_without_a_recipe_is_an_error(three, monkeypatch):
    monkeypatch.setattr(series_module, "load_recipe", load_recipe)
    (three / "axion1.yaml").write_text("title: x\nversions: [axion1-v9.9]")
    with pytest.raises(AxionError, match=r"no recipe named 'axion1-v9\.9'"):
        series("axion1")


def test_an_unknown_family_lists_the_known_ones():
    with pytest.raises(AxionError, match="no series 'axion9'; known: axion1"):
        series("axion9")
