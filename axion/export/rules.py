"""What holds of a configuration that another program can run, and the refusal where it does not."""

from axion.errors import AxionError
from axion.model.configuration_axion import AxionConfig

Rules = dict[str, tuple[bool, str]]
"""Field of the configuration → whether it can be expressed, and what it must be."""

ONE_PASS = "must be 0: every layer runs once there, and looped layers run several times"


def llama_rules(config: AxionConfig) -> Rules:
    """What holds of every model with grouped-query attention that is a Llama."""
    return {
        "num_shared_layers": (not config.num_shared_layers, ONE_PASS),
        "projection_rank": (config.projection_rank is None, "must be null: Llama has no matrices of low rank"),
        "first_k_dense_replace": (
            not config.mixture_layers,
            f"must be num_hidden_layers ({config.num_hidden_layers}): Llama has no experts",
        ),
    }


def check_rules(config: AxionConfig, rules: Rules, who: str) -> None:
    """Raises AxionError for the first field that breaks its rule.

    Args:
        who: the program that cannot run such a model.
    """
    for name, (holds, rule) in rules.items():
        if not holds:
            raise AxionError(f"{who} cannot run this model: {name} is {getattr(config, name)!r}; it {rule}")
