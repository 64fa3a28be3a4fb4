"""One module per tab; each has a `build` that adds the tab's components to the open page."""
