"""The configuration of Axion's decoder: its shape, as transformers reads, checks and saves it.

This file is copied verbatim into every release as remote code, so it imports only transformers.
"""

from transformers.configuration_utils import PreTrainedConfig

from .shape_axion import AxionShape


class AxionConfig(AxionShape, PreTrainedConfig):
    """The shape of an `AxionForCausalLM`, whose fields, defaults and checks are `AxionShape`'s.

    Raises:
        ValueError: a field has a value that cannot be built; the message names it and says what is allowed.
    """

    model_type = "axion"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]  # noqa: RUF012 (transformers' own form)
    attribute_map = {  # noqa: RUF012
        "num_local_experts": "n_routed_experts",
        "num_mtp_layers": "num_nextn_predict_layers",
    }

    # how transformers' DistributedConfig deals out the experts
    base_model_ep_plan = {  # noqa: RUF012  # pyright: ignore[reportAssignmentType] (its declared type is wrong)
        "layers.*.mlp.experts.gate_up_proj": "grouped_gemm",
        "layers.*.mlp.experts.down_proj": "grouped_gemm",
        "layers.*.mlp.experts": "ep_dispatch_experts",
    }

    def __post_init__(self, **kwargs):
        AxionShape.__post_init__(self)
        PreTrainedConfig.__post_init__(self, **kwargs)

    def get_mtp_config(self) -> PreTrainedConfig:
        """The config with which transformers' `generate(use_mtp=True)` builds the layer of multi-token prediction.

        That layer has experts. Some versions of transformers would build a dense one where the first layers are dense.
        """
        config = super().get_mtp_config()
        config.first_k_dense_replace = 0
        return config


__all__ = ["AxionConfig"]
