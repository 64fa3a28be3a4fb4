"""The page: its head, its tabs, and what happens when another model is chosen."""

import gradio as gr

from axion.errors import AxionError
from playground.markup import ASSETS, render
from playground.models import Catalogue, OpenModel
from playground.session import error_text, recorded_events, to_line
from playground.tabs import model as model_tab
from playground.tabs import playground as playground_tab
from playground.texts import FACTS, PAGE

FAVICON = ASSETS / "favicon.svg"


def build_theme() -> gr.Theme:
    """Quiet greys, so that colour always means an expert; fonts that Gradio serves itself."""
    # Gradio's files of weight 600 hold too few letters for Portuguese; its bold ones are whole.
    sans, mono = (gr.themes.LocalFont(f"IBM Plex {style}", weights=(400, 700)) for style in ("Sans", "Mono"))
    return gr.themes.Default(
        primary_hue="slate",
        secondary_hue="slate",
        neutral_hue="slate",
        radius_size="lg",
        font=(sans, "ui-sans-serif", "system-ui", "sans-serif"),
        font_mono=(mono, "ui-monospace", "Consolas", "monospace"),
    ).set(
        body_background_fill="#f7f8fa",
        body_background_fill_dark="#0e1116",
        block_background_fill="white",
        block_background_fill_dark="#161b22",
        block_border_color="#e4e7ec",
        block_border_color_dark="#2a313c",
        input_background_fill="#f7f8fa",
        input_background_fill_dark="#0e1116",
        input_border_color="#e4e7ec",
        input_border_color_dark="#2a313c",
        button_primary_background_fill="#16202e",
        button_primary_background_fill_hover="#2c3a4e",
        button_primary_background_fill_dark="#e8edf4",
        button_primary_background_fill_hover_dark="white",
        button_primary_text_color_dark="#0e1116",
        slider_color="#16202e",
        slider_color_dark="#aab6c5",
        block_title_text_color="#16202e",
        block_title_text_color_dark="#e8edf4",
        block_info_text_color="#5b6776",
        block_info_text_color_dark="#9aa7b6",
        block_title_text_weight="600",
        block_info_text_size="*text_xs",
    )


def build_page(catalogue: Catalogue) -> gr.Blocks:
    """Build the whole page. It opens on the first model that works, and on its recorded example."""
    name = catalogue.default()
    model, facts, text, about = _look_at(catalogue, name)
    with gr.Blocks(title=PAGE["title"], analytics_enabled=False, fill_width=False, delete_cache=(3600, 3600)) as page:
        with gr.Row(elem_classes="ax-header"):
            head = gr.HTML(facts, apply_default_css=False, elem_id="facts")
            choice = gr.Dropdown(
                catalogue.names,
                value=name,
                label=PAGE["model"],
                container=False,
                scale=0,
                min_width=230,
                filterable=False,
                elem_id="model",
            )
        with gr.Tabs(elem_classes="ax-tabs"):
            with gr.Tab(PAGE["tab_playground"], id="playground"):
                tab = playground_tab.build(catalogue, choice, model and model.release.trace, text)
            with gr.Tab(PAGE["tab_model"], id="model"):
                model_page = model_tab.build(about)

        choice.change(
            lambda chosen: _look_at(catalogue, chosen)[1:],
            inputs=choice,
            outputs=[head, tab.view, model_page],
            cancels=tab.generation,
            show_progress="hidden",
            api_visibility="private",
        )
    return page


def _look_at(catalogue: Catalogue, name: str) -> tuple[OpenModel | None, str, str, str]:
    """A model and what shows it: the head's facts, the view's text, the model tab. A broken one shows what is wrong."""
    try:
        model = catalogue.open(name)
        facts = render("facts.html", error=False, facts=model.facts, text=FACTS)
        return model, facts, "".join(map(to_line, recorded_events(model))), model_tab.model_html(model)
    except AxionError as error:
        message = str(error)
        return None, render("facts.html", error=True, text=FACTS), error_text(message), model_tab.error_html(message)
