"""The model tab: where the parameters are, what the cache holds, and what was measured."""

import gradio as gr

from axion.errors import AxionError
from playground.markup import render
from playground.models import OpenModel
from playground.texts import LANGUAGES, MODEL


def build(html: str) -> gr.HTML:
    """Add the tab's one component, showing `html`."""
    return gr.HTML(html, apply_default_css=False, elem_id="about")


def model_html(model: OpenModel) -> str:
    """The tab's content for `model`. Raises AxionError when its release.json is not what a release carries."""
    facts = model.facts
    return render(
        "model.html",
        facts=facts,
        components=sorted(facts.components.items(), key=lambda item: -item[1]),
        results=result_rows(model),
        text=MODEL,
    )


def error_html(message: str) -> str:
    """The tab's content for a model that could not be opened."""
    return render("error.html", message=message)


def result_rows(model: OpenModel) -> list[tuple[str, str, str]]:
    """(what was measured, the figure, its interval or unit) from release.json, without the tasks that were skipped."""
    measured = model.release.info.get("results", {}).items()
    results = {task: figures for task, figures in measured if "skipped" not in figures}
    rows = []
    try:
        if loss := results.get("gsm8k_validation"):
            rows.append((MODEL["gsm8k_validation"], f"{loss['bits_per_byte']:.3f}", MODEL["bits_per_byte"]))
            rows.append((MODEL["gsm8k_validation"], f"{loss['nats_per_token']:.3f}", MODEL["nats_per_token"]))
        for score in results.get("arithmetic", {"scores": []})["scores"]:
            name = MODEL["arithmetic"].format(digits=score["digits"], language=LANGUAGES[score["language"]])
            rows.append((name, f"{score['accuracy']:.1%}", _counted(score)))
        if score := results.get("gsm8k_test"):
            rows.append((MODEL["gsm8k_test"], f"{score['accuracy']:.1%}", _counted(score)))
        if load := results.get("expert_load"):
            extremes = f"{load['together']['lowest']:.2f} – {load['together']['highest']:.2f}"
            rows.append((MODEL["expert_load"], extremes, MODEL["times_fair"]))
    except (KeyError, TypeError, ValueError) as error:
        raise AxionError(f"{model.name}: release.json is broken: its results lack {error}; build it again") from None
    return rows


def _counted(score: dict) -> str:
    low, high = score["interval"]
    return MODEL["counted"].format(correct=score["correct"], total=score["total"], low=f"{low:.1%}", high=f"{high:.1%}")
