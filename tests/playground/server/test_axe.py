"""axe-core finds nothing serious in any scene of the page, in any language and theme.

python -m pytest -m slow tests/playground/server/test_axe.py
"""

from itertools import product

import pytest

from axion.release import RELEASES
from playground.locales import LANGUAGES
from tests.support.axe import SERIOUS, NoAxe, axe_script, find_faults
from tests.support.scenes import open_page, scenes_of
from tests.support.servers import served

WANTED = ("heading-order", "empty-table-header", "skip-link")
"""Rules whose faults axe calls less than serious."""

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.skipif(not (RELEASES / "axion1-v0.1").is_dir(), reason="releases/axion1-v0.1 is not built")
def test_axe_finds_nothing_serious(browser):
    try:
        script = axe_script()
    except NoAxe as error:
        pytest.skip(str(error))
    faults: list[tuple] = []
    with served(["axion1-v0.1"]) as server:
        for language, scheme in product(LANGUAGES, ("light", "dark")):
            page = open_page(browser, server.address, {"width": 1280, "height": 800}, scheme, language, scale=1)
            for scene in scenes_of(page, language):
                for fault in find_faults(page, script):
                    if fault["impact"] in SERIOUS or fault["id"] in WANTED:
                        faults.append((scene, language, scheme, fault["id"], fault["html"][:3]))
            page.close()
    assert not faults, "\n".join(map(str, faults))
