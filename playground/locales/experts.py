"""The tab about the experts. These words travel to the browser, and `{name}` in them is filled in there."""

TEXT = {
    "en": {
        "load": "Who does the work",
        "load_note": "times the fair share; the stronger the grey, the more",
        "set": "Measured on",
        "set_together": "everything",
        "set_gsm8k_validation": "GSM8K",
        "set_arithmetic": "arithmetic",
        "load_cell": "Layer {layer}, expert {expert}: {times}× its fair share",
        "fair": "The fair share is {share} of all tokens: {active} of {experts} experts read each one.",
        "range": "The busiest is E{expert} of layer {layer} with {times}× its fair share, "
        "the idlest E{idle} of layer {idle_layer} with {idle_times}×.",
        "none_dead": "No expert is dead: dead would be under {below}× the fair share.",
        "dead": "Dead, under {below}× the fair share: {experts}.",
        "dead_expert": "E{expert} of layer {layer}",
        "dead_more": "and {count} more",
        "measured_by": "Measured by",
        "favourites": "What each expert favours",
        "favourites_note": (
            "Tokens of the documents measured above. Lift says how many times more often the expert reads a token than "
            "it reads tokens at large; the number after it, how often it did. An expert that reads {share} of all "
            "tokens can reach a lift of {most} at most, by reading a token every time. Among equals the most frequent "
            "comes first."
        ),
        "significance": (
            "* More than chance: read more often than chance would have it by over {bound} standard deviations. "
            "The risk that even one of all {looked_at} pairs of token and expert gets there by accident is {risk}."
        ),
        "layers": "Layer",
        "all_layers": "all",
        "layer": "Layer {layer}",
        "share": "reads {share} of tokens",
        "card_load": "load {times}× the fair share",
        "leans": "Leans to {kind}: {count} of its {total} favourites, {pool_count} of {pool_total} in the layer.",
        "kinds": "Favourites: {kinds}.",
        "always": "Reads each of them every time.",
        "always_some": "Reads {count} of them every time.",
        "kind_digit": "digits",
        "kind_word": "words",
        "kind_sign": "signs",
        "kind_space": "spaces",
        "kind_line": "line ends",
        "kind_special": "markers",
        "kind_count": "{kind} {count}",
        "column_token": "token",
        "column_lift": "lift",
        "column_count": "read",
        "nothing": "Nothing more often than chance.",
        "token": "{text}: lift {lift}, read {count} times of {seen}, {z} standard deviations above chance",
        "token_bare": "{text}: lift {lift}, read {count} times",
        "no_text": "(no text)",
        "no_experts": "This model has no experts: every token passes through every weight.",
        "no_favourites": "This release does not say what its experts favour: its trace.json has no favourites.",
        "no_load": "This release does not say how its experts share the work: its release.json has no expert_load.",
        "no_significance": "This release does not say which of its lifts are more than chance.",
    },
    "pt": {
        "load": "Quem faz o trabalho",
        "load_note": "vezes a parte justa; quanto mais forte o cinzento, mais",
        "set": "Medido em",
        "set_together": "tudo",
        "set_gsm8k_validation": "GSM8K",
        "set_arithmetic": "aritmética",
        "load_cell": "Camada {layer}, especialista {expert}: {times}× a sua parte justa",
        "fair": "A parte justa é {share} dos tokens: {active} de {experts} especialistas leem cada um.",
        "range": "O mais ocupado é E{expert} da camada {layer}, com {times}× a sua parte justa; "
        "o menos ocupado é E{idle} da camada {idle_layer}, com {idle_times}×.",
        "none_dead": "Nenhum especialista está morto: morto seria abaixo de {below}× a parte justa.",
        "dead": "Mortos, abaixo de {below}× a parte justa: {experts}.",
        "dead_expert": "E{expert} da camada {layer}",
        "dead_more": "e mais {count}",
        "measured_by": "Medido por",
        "favourites": "O que cada especialista prefere",
        "favourites_note": (
            "Tokens dos documentos medidos acima. O lift diz quantas vezes mais o especialista lê um token do que lê "
            "os tokens em geral; o número a seguir, quantas vezes o leu. Quem lê {share} dos tokens chega no "
            "máximo a um lift de {most}, lendo um token sempre. Entre iguais vem primeiro o mais frequente."
        ),
        "significance": (
            "* Mais do que acaso: lido mais de {bound} desvios-padrão acima do que o acaso daria. "
            "O risco de um só dos {looked_at} pares de token e especialista lá chegar por acidente é {risk}."
        ),
        "layers": "Camada",
        "all_layers": "todas",
        "layer": "Camada {layer}",
        "share": "lê {share} dos tokens",
        "card_load": "carga {times}× a parte justa",
        "leans": "Inclina-se para {kind}: {count} dos seus {total} preferidos, {pool_count} de {pool_total} na camada.",
        "kinds": "Preferidos: {kinds}.",
        "always": "Lê cada um deles sempre.",
        "always_some": "Lê {count} deles sempre.",
        "kind_digit": "algarismos",
        "kind_word": "palavras",
        "kind_sign": "sinais",
        "kind_space": "espaços",
        "kind_line": "fins de linha",
        "kind_special": "marcadores",
        "kind_count": "{kind} {count}",
        "column_token": "token",
        "column_lift": "lift",
        "column_count": "lido",
        "nothing": "Nada mais do que o acaso daria.",
        "token": "{text}: lift {lift}, lido {count} vezes em {seen}, {z} desvios-padrão acima do acaso",
        "token_bare": "{text}: lift {lift}, lido {count} vezes",
        "no_text": "(sem texto)",
        "no_experts": "Este modelo não tem especialistas: cada token passa por todos os pesos.",
        "no_favourites": "Esta versão não diz o que os especialistas preferem: o seu trace.json não traz favourites.",
        "no_load": "Esta versão não diz como o trabalho se reparte: o seu release.json não traz expert_load.",
        "no_significance": "Esta versão não diz quais dos seus lifts são mais do que acaso.",
    },
}
