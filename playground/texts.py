"""Every string that a visitor reads, in one place, so that another language is one more set of these tables.

`VIEW` travels to the browser: `{name}` in it is filled in there. Prompts are examples of what the models were taught,
in the exact form of the training data.
"""

PAGE = {
    "title": "Axion: see the experts think",
    "model": "Model",
    "tab_playground": "Playground",
    "tab_model": "Model",
    "prompt": "Prompt",
    "prompt_hint": "The model continues exactly this text. It was taught problems of this form.",
    "as_problem": "Put my text into this form",
    "presets": "Or start from one of these",
    "generate": "Generate",
    "stop": "Stop",
    "sampling": "Sampling",
    "more_sampling": "More sampling settings",
}

CONTROLS = {
    "temperature": ("Temperature", "0 always takes the likeliest token"),
    "max_new_tokens": ("Maximum new tokens", None),
    "seed": ("Seed", "The same seed and settings give the same text"),
    "top_k": ("Top-k", "Only the k likeliest tokens; 0 is off"),
    "top_p": ("Top-p", "Only the likeliest tokens that add up to p; 1 is off"),
    "min_p": ("Min-p", "Only tokens at least this likely, relative to the likeliest; 0 is off"),
    "repetition_penalty": ("Repetition penalty", "Above 1 makes repeating less likely; 1 is off"),
}

PROBLEM = "# Pergunta:\n{question}\n--\n# Resposta:\n"
BARE_SUM = "Quanto é {sum}?"

PRESETS = {
    "Quanto é 5 + 3?": "# Pergunta:\nQuanto é 5 + 3?\n--\n# Resposta:\n",
    "What is 46 - 19?": "# Pergunta:\nWhat is 46 - 19?\n--\n# Resposta:\n",
    "Problema, passo a passo": (
        "# Pergunta:\nAna tem 12 maçãs e compra mais 8. Depois dá metade a Pedro. "
        "Com quantas maçãs Ana fica?\n--\n# Raciocínio:\n"
    ),
    "Word problem, step by step": (
        "# Pergunta:\nTom has 3 boxes with 6 pencils in each. He gives 4 pencils to Mia. "
        "How many pencils does Tom have left?\n--\n# Raciocínio:\n"
    ),
}

VIEW = {
    "empty": "Write a prompt and press Generate: each token appears with the experts that read it.",
    "running": "Generating with {model}",
    "recorded": "Recorded example · {model} · {draw}",
    "done": "{model} · {draw}",
    "greedy": "greedy",
    "seeded": "temperature {temperature} · seed {seed}",
    "eos": "the model ended its text",
    "length": "stopped at the maximum length",
    "context": "the context is full",
    "time": "stopped after {limit} s",
    "stopped": "stopped",
    "layers": "Colour by layer",
    "layer": "layer {layer}",
    "text": "Text",
    "ribbon": "Routing",
    "ribbon_note": "one column per token, one row per layer; colour is the first expert, strength its weight",
    "ribbon_help": "Tokens and their experts; walk with the arrow keys",
    "load": "Load",
    "load_note": "share of tokens that each expert reads; the tick is the fair share",
    "load_cell": "Layer {layer}, expert {expert}: {count} of {tokens} tokens, {times}× its fair share",
    "verdict_lean": "Layer {layer} leans on E{expert}: {times}× its fair share.",
    "verdict_even": "The work is spread evenly: no expert takes more than {times}× its fair share.",
    "verdict_idle": "Unused here: {experts}.",
    "idle_expert": "E{expert} of layer {layer}",
    "no_experts": "This model has no experts: every token passes through every weight.",
    "token_hint": "Point at a token, or walk the routing with the arrow keys, to see its experts.",
    "from_prompt": "from the prompt",
    "probability": "probability {p}",
    "instead": "instead",
    "no_text": "(no text)",
    "stat_tokens": "Tokens",
    "stat_tokens_note": "{prompt} prompt + {new} new",
    "stat_speed": "Speed",
    "stat_speed_unit": "tokens/s",
    "stat_first": "First token",
    "stat_first_note": "from the request",
    "stat_cache": "Latent cache",
    "stat_cache_note": "plain attention: {plain}",
    "stat_recorded": "recorded",
    "announce_start": "Generating.",
    "announce_end": "Finished: {tokens} tokens. {verdict}",
    "announce_error": "Error. {message}",
}

FACTS = {
    "parameters": "parameters",
    "active": "active per token",
    "embedding": "in the embedding",
    "shape": "{layers} layers × {experts} experts, top-{active}",
    "dense": "no experts",
    "unavailable": "this model could not be opened; the others can still be chosen",
}

MODEL = {
    "parameters": "Where the parameters are",
    "parameters_note": (
        "{total} in all, of which a token passes through {active}: in each layer the shared expert reads it, "
        "and {active_experts} of the {experts} routed experts. Solid is what one token uses."
    ),
    "parameters_note_dense": "{total} in all, every one of them used by every token.",
    "component": "Component",
    "total": "Total",
    "active": "Active",
    "all": "all",
    "cache": "Memory of the past",
    "cache_note": "Latent attention keeps {times}× fewer bytes per token than plain attention with the same heads.",
    "cache_latent": "latent cache",
    "cache_plain": "plain multi-head",
    "per_token": "per token",
    "results": "Measured results",
    "no_results": "This release carries no measurements.",
}
