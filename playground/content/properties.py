"""What a host gives each view besides its value: texts, and what else the view documents as its props."""

from dataclasses import asdict
from typing import Any, Literal

from axion.inference.sampling import Sampling
from playground.generate.chat import MAX_MESSAGES
from playground.generate.comparison import SHARED
from playground.generate.request import MAX_PROMPT_CHARACTERS
from playground.locales import Language, by_language
from playground.locales.terms import term_properties

View = Literal["trace", "chat", "compare", "experts", "charts"]

PARTS: dict[View, tuple[str, ...]] = {
    "trace": ("comparison", "trace", "tampering", "closeup", "tour"),
    "chat": ("trace", "chat"),
    "compare": ("trace", "comparison"),
    "experts": ("experts",),
}
"""The parts of the locale files that hold a view's texts; of a key that several have, the last one's text."""
EXPLAINING = ("trace", "compare", "experts")
"""The views that explain terms."""
FIXED: dict[View, dict[str, Any]] = {
    "trace": {"defaults": asdict(Sampling()), "tampered": ""},
    "compare": {"defaults": asdict(Sampling()), "common": SHARED},
    "experts": {"absences": ""},
    "chat": {"most": MAX_PROMPT_CHARACTERS, "mostMessages": MAX_MESSAGES},
}
"""The props that never change."""


def view_properties(view: View, language: Language) -> dict[str, Any]:
    """All props of a view except its value and the host's own."""
    texts = {"texts": by_language(*PARTS[view])[language]} if view in PARTS else {}
    terms = term_properties(language) if view in EXPLAINING else {}
    return {**texts, "language": language, **terms, **FIXED.get(view, {})}
