"""The documentation page's tables; its text stands in playground/content/pages."""

TEXT = {
    "en": {
        "contents": "On this page",
        "field": "field",
        "key": "key",
        "default": "default",
        "here": "this model",
        "meaning": "meaning",
        "needed": "needed",
        "parameter": "parameter",
        "range": "range",
        "layer": "layer",
        "lowest": "lowest bias",
        "highest": "highest bias",
    },
    "pt": {
        "contents": "Nesta página",
        "field": "campo",
        "key": "chave",
        "default": "de origem",
        "here": "este modelo",
        "meaning": "significado",
        "needed": "necessário",
        "parameter": "parâmetro",
        "range": "de – a",
        "layer": "camada",
        "lowest": "viés mais baixo",
        "highest": "viés mais alto",
    },
}
