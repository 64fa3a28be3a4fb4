"""Commands that train many models to answer one question: `scale`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from axion.files import staged
from axion.options import Json, Overrides, check_plot

SCALE = Path("runs") / "scale"


def scale(
    tokens: Annotated[
        str | None, typer.Option(metavar="N,…", help="The lengths of the runs; 2.5M,5M,10M by default.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each size and length.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time, each with its share of the threads.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smoke test of a few minutes; its figures are meaningless.")
    ] = False,
    overrides: Overrides = None,
    results: Annotated[Path | None, typer.Option(help="The file of results; OUT/scaling.json by default.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture, as .png or .svg; OUT/scaling.png by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where unfinished runs and results are kept.")] = SCALE,
    as_json: Json = False,
) -> None:
    """Measure what size and tokens buy: train several sizes, fit a scaling law, and predict larger versions.

    Seven sizes from 0.1 to 6 million parameters are trained at each length, all under one protocol, on generated
    problems. The law is fitted without the largest size, and its prediction is compared with the measurement. This
    takes hours. A finished run is not repeated, and after Ctrl-C the same command goes on.
    """
    from axion.errors import AxionError
    from axion.evaluation import scaling
    from axion.evaluation.experiments import Results, parse_tokens

    if quick and tokens:
        raise AxionError("--quick has lengths of its own; leave out --tokens")
    lengths = tuple(parse_tokens(part) for part in tokens.split(",")) if tokens else scaling.TOKENS
    if len(set(lengths)) < 2:
        raise AxionError("--tokens names one length; a fit takes two at least, such as 2.5M,5M,10M")
    check_plot(plot)
    folder = out / "quick" if quick else out
    report = scaling.scale(
        Results(results or folder / "scaling.json"),
        folder,
        scaling.QUICK_SIZES if quick else scaling.SIZES,
        scaling.QUICK_TOKENS if quick else lengths,
        seeds,
        overrides or (),
        jobs,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    with staged(plot or folder / "scaling.png") as staging:
        scaling.draw(report, staging)
    print(json.dumps(report) if as_json else scaling.table(report))
