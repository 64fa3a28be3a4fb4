"""The prompt, its presets, and the sampling controls."""

TEXT = {
    "en": {
        "prompt": "Prompt",
        "prompt_hint": "The model continues exactly this text. It was taught problems of this form.",
        "as_problem": "Put my text into this form",
        "presets": "Or start from one of these",
        "generate": "Generate",
        "stop": "Stop",
        "sampling": "Sampling",
        "more_sampling": "More sampling settings",
        "temperature": "Temperature",
        "temperature_hint": "0 always takes the likeliest token",
        "max_new_tokens": "Maximum new tokens",
        "max_new_tokens_hint": "The end of the text or of the context may come earlier",
        "min_new_tokens": "Minimum new tokens",
        "min_new_tokens_hint": "The text may not end before; 0 is off",
        "seed": "Seed",
        "seed_hint": "The same seed and settings give the same text",
        "top_k": "Top-k",
        "top_k_hint": "Only the k likeliest tokens; 0 is off",
        "top_p": "Top-p",
        "top_p_hint": "Only the likeliest tokens that add up to p; 1 is off",
        "min_p": "Min-p",
        "min_p_hint": "Only tokens at least this likely, relative to the likeliest; 0 is off",
        "repetition_penalty": "Repetition penalty",
        "repetition_penalty_hint": "Above 1 makes repeating less likely; 1 is off",
    },
    "pt": {
        "prompt": "Texto inicial",
        "prompt_hint": "O modelo continua exatamente este texto. Aprendeu com problemas nesta forma.",
        "as_problem": "Pôr o meu texto nesta forma",
        "presets": "Ou comece por um destes",
        "generate": "Gerar",
        "stop": "Parar",
        "sampling": "Amostragem",
        "more_sampling": "Mais opções de amostragem",
        "temperature": "Temperatura",
        "temperature_hint": "0 escolhe sempre o token mais provável",
        "max_new_tokens": "Máximo de tokens novos",
        "max_new_tokens_hint": "O fim do texto ou do contexto pode chegar antes",
        "min_new_tokens": "Mínimo de tokens novos",
        "min_new_tokens_hint": "O texto não pode acabar antes; 0 desliga",
        "seed": "Semente",
        "seed_hint": "A mesma semente e as mesmas opções dão o mesmo texto",
        "top_k": "Top-k",
        "top_k_hint": "Só os k tokens mais prováveis; 0 desliga",
        "top_p": "Top-p",
        "top_p_hint": "Só os tokens mais prováveis que somam p; 1 desliga",
        "min_p": "Min-p",
        "min_p_hint": "Só tokens pelo menos tão prováveis, em relação ao mais provável; 0 desliga",
        "repetition_penalty": "Penalização de repetição",
        "repetition_penalty_hint": "Acima de 1, repetir fica menos provável; 1 desliga",
    },
}

PROBLEM = "# Pergunta:\n{question}\n--\n# Resposta:\n"
"""The form of a problem that the models were taught, before a direct answer."""

BARE_SUM = "Quanto é {sum}?"

PRESETS = {
    "Quanto é 5 + 3?": PROBLEM.format(question="Quanto é 5 + 3?"),
    "What is 46 - 19?": PROBLEM.format(question="What is 46 - 19?"),
    "Problema, passo a passo": (
        "# Pergunta:\nAna tem 12 maçãs e compra mais 8. Depois dá metade a Pedro. "
        "Com quantas maçãs Ana fica?\n--\n# Raciocínio:\n"
    ),
    "Word problem, step by step": (
        "# Pergunta:\nTom has 3 boxes with 6 pencils in each. He gives 4 pencils to Mia. "
        "How many pencils does Tom have left?\n--\n# Raciocínio:\n"
    ),
}
"""Examples of what the models were taught, in the exact form of the training data: button → prompt."""
