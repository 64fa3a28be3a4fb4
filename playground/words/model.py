"""The tab about the model and its training."""

TEXT = {
    "en": {
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
    },
    "pt": {
        "parameters": "Onde estão os parâmetros",
        "parameters_note": (
            "{total} ao todo, dos quais um token passa por {active}: em cada camada lê-o o especialista partilhado "
            "e {active_experts} dos {experts} especialistas encaminhados. A parte cheia é o que um token usa."
        ),
        "parameters_note_dense": "{total} ao todo, e cada token usa-os todos.",
        "component": "Componente",
        "total": "Total",
        "active": "Ativos",
        "all": "todos",
        "cache": "Memória do passado",
        "cache_note": "A atenção latente guarda {times}× menos bytes por token do que a simples com as mesmas cabeças.",
        "cache_latent": "cache latente",
        "cache_plain": "multi-head simples",
        "per_token": "por token",
        "results": "Resultados medidos",
        "no_results": "Esta versão não traz medições.",
    },
}
