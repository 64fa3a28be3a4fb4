"""The snippets of the last tab."""

TEXT = {
    "en": {
        "title": "Ask this model from a program",
        "lead": (
            "The model above, with the prompt and the settings of the first tab as they are now. "
            "Each snippet runs as it is, and its result can be repeated."
        ),
        "curl": "curl",
        "transformers": "transformers",
        "openai": "OpenAI",
        "gradio": "gradio_client",
        "mcp": "MCP",
        "about_curl": "One request from a shell, in OpenAI's form. The same seed gives the text of this page.",
        "about_transformers": (
            "Python without this page: the release itself, with the Python files that it brings (trust_remote_code). "
            "The likeliest tokens are those of the page; above temperature 0 transformers draws in its own way, so "
            "that the same seed gives another text."
        ),
        "about_openai": "Python with OpenAI's own library. The answer also says which experts read each token.",
        "about_gradio": "Python with Gradio's client. The answer also says which experts read each token.",
        "about_mcp": (
            "For assistants that use tools: put this into their configuration, and they find generate_text, "
            "list_models and show_experts."
        ),
        "call_mcp": "The arguments with which generate_text repeats the first tab:",
        "folder_note": "your folder with this release",
    },
    "pt": {
        "title": "Usar este modelo a partir de um programa",
        "lead": (
            "O modelo escolhido acima, com o texto inicial e as opções do primeiro separador tal como estão agora. "
            "Cada exemplo corre assim mesmo, e o resultado pode ser repetido."
        ),
        "curl": "curl",
        "transformers": "transformers",
        "openai": "OpenAI",
        "gradio": "gradio_client",
        "mcp": "MCP",
        "about_curl": "Um pedido da linha de comandos, na forma da OpenAI. A mesma semente dá o texto desta página.",
        "about_transformers": (
            "Python sem esta página: a própria versão publicada, com os ficheiros Python que ela traz "
            "(trust_remote_code). Os tokens mais prováveis são os da página; acima da temperatura 0, a transformers "
            "sorteia à sua maneira, e a mesma semente dá outro texto."
        ),
        "about_openai": "Python com a biblioteca da OpenAI. A resposta diz também que especialistas leram cada token.",
        "about_gradio": "Python com o cliente do Gradio. A resposta diz também que especialistas leram cada token.",
        "about_mcp": (
            "Para assistentes que usam ferramentas: ponha isto na configuração deles, e encontram generate_text, "
            "list_models e show_experts."
        ),
        "call_mcp": "Os argumentos com que generate_text repete o primeiro separador:",
        "folder_note": "a sua pasta com esta versão",
    },
}
