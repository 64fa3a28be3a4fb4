"""The page where visitors watch the experts at work. It reads releases and knows nothing of training."""

GENERATIONS_AT_ONCE = 2
"""So many generations of the page work side by side, and so many of the HTTP interface; the others wait."""
