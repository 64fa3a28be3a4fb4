"""`play`, which hands its arguments to the playground."""

import typer

from axion.errors import AxionError


def play(context: typer.Context) -> None:
    """Serve the playground, a page that shows the experts at work; `axion play --help` lists its options."""
    from importlib.metadata import entry_points

    found = entry_points(group="axion.commands", name="play")  # the playground's own: nothing here imports it
    if not found:
        raise AxionError("the playground is not installed: run `python app.py` in a clone, or `pip install -e .` first")
    next(iter(found)).load()(context.args, program="axion play")
