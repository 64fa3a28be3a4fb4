"""The architecture section of a recipe: the fields of `AxionShape` that it may have, and their types and ranges."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from axion.families import has_experts
from axion.model.shape_axion import LATENT_SIZES, AxionShape
from axion.settings import LARGEST, Positive, Rate, Section, Share, first_error, lower_first, shown
from axion.tokenizer import SPECIAL_TOKENS

TOKEN_IDS = {f"{name}_token_id": SPECIAL_TOKENS.index(f"<{name}>") for name in ("pad", "bos", "eos")}
"""Fields that the tokenizer gives → their values with Axion's own."""

EXPERT_FIELDS = (
    *("n_shared_experts", "n_routed_experts", "num_experts_per_tok", "n_group", "topk_group"),
    *("moe_intermediate_size", "norm_topk_prob", "routed_scaling_factor"),
)
"""Fields of AxionShape that only layers with experts read."""


class RotaryRecipe(Section):
    """Rotary positions: transformers' `rope_parameters` for the types "default" and "yarn"."""

    rope_type: Literal["default", "yarn"] = "default"
    rope_theta: Rate = 10_000.0
    factor: Annotated[float, Field(ge=1)] | None = None
    """YaRN: how many times longer the context is than `original_max_position_embeddings`."""
    original_max_position_embeddings: Positive | None = None
    attention_factor: Rate | None = None
    beta_fast: Rate | None = None
    beta_slow: Rate | None = None
    mscale: Rate | None = None
    mscale_all_dim: Rate | None = None
    truncate: bool | None = None

    @model_validator(mode="after")
    def _fits_its_type(self):
        yarn = sorted(self.model_fields_set - {"rope_type", "rope_theta"})
        if self.rope_type == "default" and yarn:
            raise ValueError(f'architecture.rope_parameters.{yarn[0]} needs rope_type "yarn"')
        if self.rope_type == "yarn" and self.factor is None:
            raise ValueError('architecture.rope_parameters.factor is missing; rope_type "yarn" needs it')
        if self.rope_type == "yarn" and (self.beta_fast or 32) <= (self.beta_slow or 1):  # transformers' defaults
            raise ValueError("architecture.rope_parameters.beta_fast must be greater than beta_slow")
        return self


def unused_fields(config: AxionShape) -> dict[str, str]:
    """The fields of AxionShape that a model with this configuration does not read → why.

    Expert fields of a dense model with latent attention are not among them: recipes of v0.1 may have them.
    """
    if config.attention == "mla":
        return {"head_dim": 'only attention "gqa" has it'}
    unused: dict[str, str] = dict.fromkeys(LATENT_SIZES, 'only attention "mla" has it')
    if not has_experts(config):
        unused |= dict.fromkeys(EXPERT_FIELDS, "no layer has experts (first_k_dense_replace is num_hidden_layers)")
    return unused


def used_fields(config: AxionShape) -> dict[str, Any]:
    """The architecture section of a recipe for this configuration, without what the tokenizer gives."""
    left_out = {*unused_fields(config), "vocab_size", *TOKEN_IDS}
    return {key: getattr(config, key) for key in AxionShape.__annotations__ if key not in left_out}


def check_field(key: str, value: Any) -> Any:
    """The value of a field of AxionShape. Raises ValueError where it has another type or range."""
    if key == "rope_parameters" and value is not None:
        section = f"architecture.{key}"
        known = [f"{section}.{name}" for name in RotaryRecipe.model_fields]
        try:
            return RotaryRecipe.model_validate(value).model_dump(exclude_unset=True)
        except ValidationError as error:
            raise ValueError(first_error(error, known, section)) from None
    kind = Share if key in ("attention_dropout", "dropout") else AxionShape.__annotations__[key]
    # YAML reads 1e-6, which has no dot, as a string
    adapter, strict = TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)), kind not in (float, Share)
    try:
        checked = adapter.validate_python(value, strict=strict)
    except ValidationError as error:
        raise ValueError(f"architecture.{key} is {shown(value)}; {lower_first(error.errors()[0]['msg'])}") from None
    if isinstance(checked, int | float) and not 0 <= checked <= LARGEST:
        raise ValueError(f"architecture.{key} is {shown(value)}; it must be between 0 and {LARGEST:,}")
    return checked
