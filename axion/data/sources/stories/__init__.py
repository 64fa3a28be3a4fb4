"""All families of stories that word problems are told from."""

from axion.data.sources.stories.country import FARM, FENCE, JOURNEY, TANK
from axion.data.sources.stories.home import COLLECTION, READING, SAVINGS
from axion.data.sources.stories.parts import CONNECTORS, NAMES, PRONOUNS, Family, Part
from axion.data.sources.stories.people import AGES, COMPARISON, SCHOOL_TRIP, WORK
from axion.data.sources.stories.town import BAKERY, BUS, ORCHARD, SHOPPING

FAMILIES = (
    *(COLLECTION, SAVINGS, READING),
    *(BAKERY, BUS, ORCHARD, SHOPPING),
    *(COMPARISON, AGES, SCHOOL_TRIP, WORK),
    *(FARM, TANK, JOURNEY, FENCE),
)

__all__ = ["CONNECTORS", "FAMILIES", "NAMES", "PRONOUNS", "Family", "Part"]
