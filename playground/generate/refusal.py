"""A visitor's mistake, reported in the language of the page."""

from axion.errors import AxionError
from playground.locales import DEFAULT, Language, fill, texts


class Refusal(AxionError):
    """A visitor's mistake, with a text in every language of the page; as an exception its text is English.

    Args:
        mistake: the key of its text in the part "errors" of the locale files.
        values: what is filled in there; `kind` is itself the key of a text.
    """

    def __init__(self, mistake: str, **values: object) -> None:
        self.mistake, self.values = mistake, values
        super().__init__(self.tell(DEFAULT))

    def tell(self, language: Language) -> str:
        """The mistake in one line."""
        errors = texts("errors", language)
        values = self.values | ({"kind": errors[str(self.values["kind"])]} if "kind" in self.values else {})
        return fill(errors[self.mistake], language, **values)


def tell(error: AxionError, language: Language) -> str:
    """The error in this language, or in English where it has no translation."""
    return error.tell(language) if isinstance(error, Refusal) else str(error)
