"""The kinds of data that a recipe may list in `data.sources`, one file each."""

from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from axion.data.sources.arithmetic import Arithmetic
from axion.data.sources.base import FileSource, Source, named_sources
from axion.data.sources.chat import Chat
from axion.data.sources.dialogues import Dialogues
from axion.data.sources.events import Events
from axion.data.sources.gsm8k import Gsm8k
from axion.data.sources.one_step_stories import Stories
from axion.data.sources.phrasings import Phrasings
from axion.data.sources.text import Text
from axion.data.sources.word_problems import WordProblems

AnySource = Annotated[
    Gsm8k | Arithmetic | WordProblems | Phrasings | Stories | Events | Dialogues | Text | Chat,
    Field(discriminator="kind"),
]

SOURCES = MappingProxyType(
    {
        kind.model_fields["kind"].default: kind
        for kind in (Gsm8k, Arithmetic, WordProblems, Phrasings, Stories, Events, Dialogues, Text, Chat)
    }
)
"""Kind → class, in the order in which tables list them."""

__all__ = [
    "SOURCES",
    "AnySource",
    "Arithmetic",
    "Chat",
    "Dialogues",
    "Events",
    "FileSource",
    "Gsm8k",
    "Phrasings",
    "Source",
    "Stories",
    "Text",
    "WordProblems",
    "named_sources",
]
