"""The options and arguments that several commands share, here and in `publish`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from axion.errors import AxionError

Version = Annotated[
    str, typer.Argument(metavar="VERSION", help="The name of a recipe, such as axion1-v0.1, or a YAML file.")
]
ReleaseName = Annotated[
    str,
    typer.Argument(metavar="RELEASE", help="A folder, a name under releases/, or a Hub id with an optional @revision."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a key of the recipe; repeatable."),
]
Texts = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="PATH",
        help="Text to train on in place of the recipe's data: a file, a folder, or the id of a data set on the Hub; "
        "repeatable.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="The name of the run and of its release, needed with --text."),
]
Languages = Annotated[
    list[str] | None,
    typer.Option("--language", metavar="CODE", help="The text's language for the card, such as en; repeatable."),
]

Temperature = Annotated[float, typer.Option(help="0 always takes the most likely token.")]
TopK = Annotated[int, typer.Option(help="Sample from the k most likely tokens; 0 for all.")]
TopP = Annotated[float, typer.Option(help="Sample from the fewest tokens that together have this probability.")]
MinP = Annotated[float, typer.Option(help="Leave out tokens less likely than this share of the most likely one.")]
RepetitionPenalty = Annotated[float, typer.Option(help="Above 1 makes tokens that occurred before less likely.")]
MaxNewTokens = Annotated[int, typer.Option(help="Stop after this many tokens.")]
SamplingSeed = Annotated[int, typer.Option(help="The same seed gives the same text.")]
Weights = Annotated[
    Literal["fp32", "bf16", "int8"],
    typer.Option(
        help="The weights that the native kernels write with: bf16 and int8 take a half and a quarter of the memory, "
        "and are faster where that binds, for a slightly higher loss."
    ),
]
"""Of the kinds in `axion.kernels.dimensions.WEIGHT_BITS`."""
Mute = Annotated[
    list[str] | None,
    typer.Option("--mute", metavar="L2.E4", help="Take an expert away: layer 2, expert 4. Repeatable, or with commas."),
]
"""This and the next five are read by `axion.tampering.read_tampering`."""
Force = Annotated[list[str] | None, typer.Option("--force", metavar="L1.E2", help="Always choose this expert.")]
TopExperts = Annotated[int | None, typer.Option("--top-experts", metavar="N", help="Routed experts per token.")]
Bias = Annotated[
    list[str] | None,
    typer.Option(
        "--bias", metavar="off|L2.E4=0.1", help="Choose experts without the balancing bias, or with another one."
    ),
]
Scale = Annotated[list[str] | None, typer.Option("--scale", metavar="L1.E2=0.5", help="Multiply an expert's gate.")]
MuteHead = Annotated[
    list[str] | None, typer.Option("--mute-head", metavar="L1.H3", help="Take an attention head away.")
]
Loops = Annotated[
    int | None,
    typer.Option(min=1, max=8, help="How often a looped model runs its shared layers; as its config says by default."),
]

PLOT_FORMATS = (".png", ".svg")


def check_plot(plot: Path | None) -> None:
    """Raises AxionError unless the file that `--plot` names can be drawn; called before anything is measured."""
    if plot is not None and plot.suffix not in PLOT_FORMATS:
        raise AxionError(f"--plot {plot} must end in {' or '.join(PLOT_FORMATS)}")
