"""The tab compare."""

from playground.house import House, Panel


def build(house: House) -> list[Panel]:
    """Add the tab's components."""
    return []
