"""The words of the field, which views explain where they occur."""

from playground.locales import Language, texts

CHAPTERS = {
    "attention": "attention",
    "expert": "experts",
    "shared_expert": "experts",
    "router": "experts",
    "affinity": "experts",
    "bias": "experts",
    "gate": "experts",
    "latent_cache": "attention",
    "kv_cache": "attention",
}
"""Term → the chapter of the documentation that says more."""


def term_properties(language: Language) -> dict[str, object]:
    """The properties `terms` and `terms_more` of a view; see playground/views/terms.js."""
    meanings = texts("terms", language)
    terms = [
        {"forms": forms.split("|"), "text": meanings[name], "chapter": CHAPTERS.get(name)}
        for name, forms in texts("term_forms", language).items()
    ]
    return {"terms": terms, "terms_more": meanings["more"]}
