"""The tab that compares two generations. `VIEW` travels to the browser, where `{name}` is filled in."""

from playground.locales import trace

TEXT = {
    "en": {
        "compare": "Compare",
        "stop": "Stop",
        "swap": "Swap A and B",
        "side_a": "A",
        "side_b": "B",
        "model_a": "Model of A",
        "model_b": "Model of B",
        "both": "For both",
    },
    "pt": {
        "compare": "Comparar",
        "stop": "Parar",
        "swap": "Trocar A e B",
        "side_a": "A",
        "side_b": "B",
        "model_a": "Modelo de A",
        "model_b": "Modelo de B",
        "both": "Para ambos",
    },
}

VIEW = {
    "en": {
        **trace.TEXT["en"],
        "empty": "Choose two models, or one model with two settings, and press Compare: both go on from the same "
        "prompt with the same seed. Their texts and their routing stand side by side, and the first difference is "
        "marked.",
        "texts_title": "Texts",
        "ribbons": "Routing, side by side",
        "ribbons_note": "as wide as its letters: what stands above each other is the same place in the text",
        "ribbon_of": "Tokens of {side} and their experts; walk with the arrow keys",
        "text_of": "Text of {side}",
        "running_both": "Both are writing…",
        "parted": "They part after {count} equal characters: A goes on with {a}, B with {b}.",
        "parted_at_once": "They part at once: A begins with {a}, B with {b}.",
        "goes_on": "“{word}” ({p})",
        "ends": "nothing more",
        "identical": "The two texts are identical.",
        "nothing": "Neither wrote anything.",
        "same_routing": "{same} of {count} common tokens were read by the same experts.",
        "perplexity": "Perplexity",
        "perplexity_note": "of its new tokens, by itself",
        "own_time": "of its own time",
        "announce_both": "Finished. {verdict}",
    },
    "pt": {
        **trace.TEXT["pt"],
        "empty": "Escolha dois modelos, ou um modelo com duas configurações, e carregue em Comparar: ambos continuam o "
        "mesmo texto com a mesma semente. Os textos e o encaminhamento ficam lado a lado, com a primeira diferença "
        "marcada.",
        "texts_title": "Textos",
        "ribbons": "Encaminhamento, lado a lado",
        "ribbons_note": "tão largo como as suas letras: o que está na mesma vertical é o mesmo lugar no texto",
        "ribbon_of": "Tokens de {side} e os seus especialistas; percorra com as setas",
        "text_of": "Texto de {side}",
        "running_both": "Ambos estão a escrever…",
        "parted": "Separam-se ao fim de {count} caracteres iguais: A continua com {a}, B com {b}.",
        "parted_at_once": "Separam-se logo: A começa com {a}, B com {b}.",
        "goes_on": "“{word}” ({p})",
        "ends": "mais nada",
        "identical": "Os dois textos são idênticos.",
        "nothing": "Nenhum escreveu nada.",
        "same_routing": "{same} de {count} tokens comuns foram lidos pelos mesmos especialistas.",
        "perplexity": "Perplexidade",
        "perplexity_note": "dos seus tokens novos, segundo ele próprio",
        "own_time": "do seu próprio tempo",
        "announce_both": "Acabou. {verdict}",
    },
}
