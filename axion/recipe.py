"""Recipes: one YAML file per version, validated completely before anything runs.

A recipe fully describes how a model is made: architecture, tokenizer, data and training. `load_recipe` reads one by
name or path, applies `key.path=value` overrides and rejects unknown keys and impossible shapes with a one-line error.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from axion.architecture import TOKEN_IDS, check_field, unused_fields
from axion.data.recipe import DataRecipe, TokenizerRecipe, with_text
from axion.data.sources import SOURCES
from axion.errors import AxionError, one_line
from axion.families import families_of, get_family, has_experts
from axion.files import read_yaml
from axion.model.shape_axion import AxionShape
from axion.overrides import apply_overrides
from axion.settings import (
    LARGEST,
    Count,
    Positive,
    Rate,
    Section,
    Seed,
    Share,
    Weight,
    first_error,
    nearest,
    shown,
)
from axion.shipped import shipped
from axion.tokenizer import SPECIAL_TOKENS

if TYPE_CHECKING:
    from axion.model.configuration_axion import AxionConfig

CONFIGS = shipped("configs")

STAND_IN = 1024
"""Stands for the size of a vocabulary that is not known yet."""


OF_THE_CARD = ("title", "repo_name", "license", "languages", "release_heldout")
"""Keys of a recipe that say how a release is presented, and not what is trained."""


def _known_family(name: str) -> str:
    try:
        return get_family(name).name
    except AxionError as error:
        raise ValueError(str(error)) from None


def _short_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,95}", name):
        raise ValueError(
            f"name is {one_line(repr(name), 80)}; it must be at most 96 lower-case letters, digits, dots and hyphens, "
            "such as my-tales"
        )
    return name


def _range(loops: tuple[int, int]) -> tuple[int, int]:
    if loops[0] > loops[1]:
        raise ValueError(f"training.loops is {shown([*loops])}; write the fewest loops first, as in [1, 4]")
    return loops


def _ascending(steps: list[int]) -> list[int]:
    if steps != sorted(set(steps)):
        raise ValueError(f"training.restarts is {shown(steps)}; each step must be greater than the one before it")
    return steps


class DistributedRecipe(Section):
    """How a model is sharded over the processes of torchrun; see docs/scaling.md."""

    fsdp_size: Positive = 1
    """Over how many processes every weight, its gradient and its optimizer state are sharded (FSDP2). 1: each process
    holds the whole model. Further processes hold further copies, and all train on different parts of the batch."""
    ep_size: Positive = 1
    """Over how many of these the routed experts are distributed as a whole: tokens are sent to them, not weights."""

    @property
    def is_sharded(self) -> bool:
        """Whether a process holds less than the whole model."""
        return self.fsdp_size > 1


class TrainingRecipe(Section):
    """Training settings. Steps are optimizer steps."""

    window: Annotated[int, Field(ge=2, le=LARGEST)] = 512
    """Tokens per training sequence; the first of them is not predicted."""
    short_window: Annotated[int, Field(ge=2, le=LARGEST)] | None = None
    """Cut every window into pieces of this length for the first `short_share` of the steps: attention then costs less,
    and the rest of the run teaches the whole window."""
    short_share: Share = 0.75
    document_mask: bool = False
    """Whether the documents that are packed into one window do not attend to each other."""
    whole_documents: bool = False
    """Never cut a document between two windows, for conversations: as many as fit share a window, masked from each
    other, and the rest of it is padding. One that is too long loses the answers that do not fit."""
    batch_size: Positive = 8
    """Windows per optimizer step, over gradient accumulation and all processes together."""
    grad_accum: Positive = 1
    """Into how many parts a process cuts its share of the batch."""
    epochs: Positive = 20
    max_steps: Positive | None = None
    """Stop after this many steps, whatever `epochs` says."""
    optimizer: Literal["muon", "adamw", "adamw8bit"] = "muon"
    """muon: Muon for the matrices and experts, AdamW for embeddings, norms and router; adamw: AdamW for all; adamw8bit:
    AdamW with its state in 8 bits, by bitsandbytes, and plain AdamW where that is not installed or does not work."""
    learning_rate: Rate = 6e-3
    """AdamW's peak rate."""
    muon_learning_rate: Rate = 1.2e-2
    """Muon's peak rate; its update is scaled to the size of AdamW's."""
    router_learning_rate: Rate = 5e-3
    muon_momentum: Share = 0.95
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled decay of the matrices and experts; none on embeddings, norms, router."""
    adam_betas: tuple[Share, Share] = (0.9, 0.95)
    adam_epsilon: Rate = 1e-8
    schedule: Literal["wsd", "three_phase", "cosine"] = "wsd"
    """wsd: warm-up, constant, then linear decay over `decay_fraction`; three_phase: the same with half a cosine for the
    decay; cosine: warm-up, then half a cosine."""
    warmup_steps: Count = 40
    decay_fraction: Annotated[float, Field(ge=0, le=1)] = 0.65
    final_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Learning rate at the last step, as a share of the peak."""
    restarts: Annotated[list[Positive], AfterValidator(_ascending)] = []  # noqa: RUF012 (pydantic copies defaults)
    """Steps after which the schedule starts again, where a finished run was continued for more epochs."""
    max_grad_norm: Rate = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """auto: bf16 autocast where the processor multiplies bf16 matrices."""
    distributed: DistributedRecipe = DistributedRecipe()
    compile: bool = False
    """torch.compile; the first steps take up to a minute longer."""
    gradient_checkpointing: bool = False
    """Keep only each layer's input for the backward pass and compute the layer again there: less memory, a third more
    time, the same result."""
    label_smoothing: Share = 0.0
    """How much of each label is spread evenly over the vocabulary in training; the validation loss stays plain."""
    loops: Annotated[tuple[Positive, Positive], AfterValidator(_range)] | None = None
    """How often a step runs the shared layers of a looped model: drawn evenly from a range for each step, so that the
    trained model works with any number of loops in it. None: always `architecture.num_loops`, with which the validation
    loss is measured in any case."""
    mtp_weight: tuple[Weight, Weight] = (0.3, 0.1)
    """λ, the weight of the loss of multi-token prediction: in the first two thirds of the tokens, and after them. Used
    where architecture.num_nextn_predict_layers is 1."""
    bias_update_speed: Annotated[float, Field(ge=0)] = 1e-3
    """γ: how far each routing bias moves after a step towards an even load; 0 leaves them alone."""
    sequence_balance_weight: Annotated[float, Field(ge=0)] = 0.0
    """α of the sequence-wise balance loss; 0 is off."""
    evaluations: Positive = 20
    """How often the validation loss is measured in a run."""
    checkpoints: Positive = 20
    """How often a checkpoint is saved in a run."""
    keep_checkpoints: Positive = 2
    """How many checkpoints are kept, the newest ones."""
    keep_best: bool = False
    """Also save and keep a checkpoint wherever the validation loss is lower than at every measurement before."""
    trackers: list[Literal["tensorboard", "trackio"]] = []  # noqa: RUF012 (pydantic copies defaults)
    """Trackers to report to besides metrics.csv, if installed."""


class StartRecipe(Section):
    """The release that a run starts from, instead of random weights; the run takes over its tokenizer."""

    name: str
    """The release's name, or its Hub id."""
    sha256: str
    """SHA-256 of its model.safetensors."""
    repo_id: str | None = None
    """Its repository on the Hub, where it has one."""
    revision: str | None = None
    """The tag or commit there."""


class LoraRecipe(Section):
    """Low-rank adapters on the linear layers of attention and feed-forward parts, and on every routed expert."""

    rank: Positive = 16
    """Rank of each adapter."""
    alpha: Rate = 32.0
    """An adapter's output is scaled by alpha / rank."""


class Recipe(Section):
    """Everything that is needed to make a version's model."""

    name: Annotated[str, AfterValidator(_short_name)]
    title: str
    family: Annotated[str, AfterValidator(_known_family)]
    """A name in `axion.families.FAMILIES`."""
    version: str
    repo_name: str
    """The repository's name on the Hub, without the user's."""
    license: str = "mit"
    languages: list[str] = ["en", "pt"]  # noqa: RUF012
    release_heldout: bool | None = None
    """Whether a release has heldout.jsonl, up to 200 of the documents over which the loss was measured. By default it
    does if all of the data is generated or from the Hub, and does not if some was read from local files."""
    seed: Seed = 1
    """Seeds initialisation and the order of the data."""
    architecture: dict[str, Any]
    """Fields of AxionShape; the vocabulary's size comes from the tokenizer."""
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    data: DataRecipe = DataRecipe()
    training: TrainingRecipe = TrainingRecipe()
    start: StartRecipe | None = None
    """The release whose weights and tokenizer the run starts from; None to train from scratch."""
    lora: LoraRecipe | None = None
    """Train adapters of low rank, which are merged into the weights at the end, instead of the weights themselves."""

    @model_validator(mode="after")
    def _shapes_can_be_built(self):
        known = set(AxionShape.__annotations__) - {"vocab_size"}
        for key, value in self.architecture.items():
            if key not in known:
                raise ValueError(f"architecture.{key} is unknown{nearest(key, known)}")
            self.architecture[key] = check_field(key, value)
        own = self.tokenizer.kind == "bpe"
        for key, expected in TOKEN_IDS.items():
            if key in self.architecture and not (own and self.architecture[key] == expected):
                rule = (
                    f"must be {expected}, the tokenizer's {SPECIAL_TOKENS[expected]}" if own else "is the tokenizer's"
                )
                raise ValueError(f"architecture.{key} is {shown(self.architecture[key])}; it {rule}")
        try:
            # that of a model on the Hub is not fetched to check the shapes
            config = AxionShape(vocab_size=self.tokenizer.vocab_size or STAND_IN, **self.architecture)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"architecture.{one_line(error)}") from None
        unused = unused_fields(config)
        for key, value in self.architecture.items():
            if key in unused and value is not None:
                raise ValueError(f"architecture.{key} is {shown(value)}; {unused[key]}, so leave it out")
        if self.family not in (known := [family.name for family in families_of(config)]):
            raise ValueError(f"family is {self.family!r}; a model of this architecture is of {' or '.join(known)}")
        if self.training.window > config.max_position_embeddings:
            raise ValueError(
                f"training.window is {self.training.window}; it must be at most "
                f"architecture.max_position_embeddings ({config.max_position_embeddings})"
            )
        shortest = min(self.training.window, self.training.short_window or self.training.window)
        if config.num_nextn_predict_layers and shortest < 3:
            raise ValueError(
                f"training.window and training.short_window must be at least 3, not {shortest}, with "
                "architecture.num_nextn_predict_layers: the first two tokens of a window are not predicted"
            )
        sizes = self.training.distributed
        if sizes.ep_size > 1 and not has_experts(config):
            raise ValueError(
                f"training.distributed.ep_size is {sizes.ep_size}; the model has no experts, so it must be 1"
            )
        if sizes.fsdp_size % sizes.ep_size or config.n_routed_experts % sizes.ep_size:
            raise ValueError(
                f"training.distributed.ep_size is {sizes.ep_size}; it must divide training.distributed.fsdp_size "
                f"({sizes.fsdp_size}) and architecture.n_routed_experts ({config.n_routed_experts})"
            )
        if sizes.ep_size > 1 and config.n_routed_experts % sizes.fsdp_size:
            raise ValueError(
                f"training.distributed.fsdp_size is {sizes.fsdp_size}; with an ep_size above 1 it must divide "
                f"architecture.n_routed_experts ({config.n_routed_experts})"
            )
        if self.training.loops and not config.num_shared_layers:
            raise ValueError("training.loops needs a model with shared layers; architecture.num_shared_layers is 0")
        if self.training.window % (self.training.short_window or 1):
            raise ValueError(
                f"training.short_window is {self.training.short_window}; it must divide training.window "
                f"({self.training.window})"
            )
        if self.training.short_window and self.training.whole_documents:
            raise ValueError("training.short_window cuts documents; leave it out with training.whole_documents")
        if self.lora and self.training.optimizer == "muon":
            raise ValueError("training.optimizer must be adamw with lora: Muon is for whole matrices")
        if self.lora and not self.start:
            raise ValueError("lora adapts the weights of a release; start a run from one with `axion finetune`")
        return self

    def build_shape(self) -> AxionShape:
        """The model's shape, with the tokenizer's vocabulary size and special tokens; needs no transformers.

        Raises:
            AxionError: the tokenizer is that of a model on the Hub, and cannot be loaded.
        """
        return AxionShape(**self._shape_fields())

    def build_config(self) -> "AxionConfig":
        """The same as transformers' configuration of the model.

        Raises:
            AxionError: as `build_shape`.
        """
        from axion.model.configuration_axion import AxionConfig

        return AxionConfig(**self._shape_fields())

    def _shape_fields(self) -> dict[str, Any]:
        return {"vocab_size": self.tokenizer.num_tokens, **self.tokenizer.special_ids, **self.architecture}

    def to_yaml(self) -> str:
        """The recipe as a release carries it: local data files by name and sha256 instead of by path."""
        content = self.model_dump(mode="json")
        content["data"] = self.data.released()
        content["tokenizer"] = self.tokenizer.released()
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def known_versions() -> list[str]:
    """Names of the recipes in configs/."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


class OwnText(NamedTuple):
    """What `--text`, `--name` and `--language` say."""

    named: Sequence[str] = ()
    """Files, folders and data sets on the Hub that replace the recipe's sources."""
    name: str | None = None
    """The name of the run, of its release and of its repository."""
    languages: Sequence[str] = ()
    """Codes of ISO 639-1."""


def load_recipe(version: str | Path, overrides: Sequence[str] = (), own: OwnText | None = None) -> Recipe:
    """Reads a recipe by name (configs/NAME.yaml) or YAML path and applies `key.path=value` overrides.

    Values are read as YAML, as in `training.epochs=2` or `data.sources.gsm8k.files=[a.jsonl, b.jsonl]`. An entry of a
    list is named by its index or, in `data.sources`, by its kind. The keys of earlier recipes are still taken, such as
    `data.files=a.jsonl`, `data.hub_id=null` or `data.arithmetic=100`; see `axion.data.recipe.with_sources`.

    Args:
        version: the recipe.
        overrides: applied last.
        own: text to train on in place of the recipe's data, and the model's own name.

    Raises:
        AxionError: no such recipe, not YAML, an unknown key, a value of the wrong type, a shape that cannot be built;
            text without a name for the model.
    """
    path = Path(version)
    if path.suffix not in {".yaml", ".yml"}:
        path = CONFIGS / f"{version}.yaml"
        if not path.is_file():
            raise AxionError(f"no recipe named {version!r}; known: {', '.join(known_versions())}, or give a YAML file")
    content = read_recipe(path)
    if own is not None:
        _take(content, own)
    return build_recipe(content, overrides, path.name)


def build_recipe(content: dict[str, Any], overrides: Sequence[str], where: str) -> Recipe:
    """The recipe of these keys and values, with overrides applied.

    Args:
        content: is changed.
        overrides: as in `load_recipe`.
        where: what the content comes from, for messages.

    Raises:
        AxionError: an unknown key, a value of the wrong type, a shape that cannot be built.
    """
    apply_overrides(content, overrides)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise AxionError(f"{where}: {first_error(error, _all_keys())}") from None


def read_recipe(path: Path) -> dict[str, Any]:
    """The keys and values of a recipe's file, not yet checked. Raises AxionError where they cannot be read."""
    try:
        content = read_yaml(path)
    except OSError as error:
        raise AxionError(f"cannot read the recipe {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise AxionError(f"{path} is not valid YAML: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise AxionError(f"{path} is not a recipe; it must be a mapping with at least name, title and architecture")
    return content


def _take(content: dict, own: OwnText) -> None:
    """Applies the options of text to a recipe."""
    if own.named:
        if own.name is None:
            raise AxionError("--text makes another model than the recipe's; give it a name of its own with --name NAME")
        language = own.languages[0] if len(own.languages) == 1 else None
        content["data"] = with_text(content.get("data") or {}, own.named, language)
        content["languages"] = []
    if wrong := [code for code in own.languages if not re.fullmatch(r"[a-z]{2}", code)]:
        raise AxionError(f"--language {wrong[0]} is not a lower-case ISO 639-1 code; write one such as en or pt")
    if own.languages:
        content["languages"] = list(own.languages)
    if own.name is not None:
        if own.name in known_versions():
            raise AxionError(f"--name {own.name} is the name of a recipe in configs/; give the model a name of its own")
        content |= {"name": own.name, "title": own.name, "repo_name": own.name}


def recipe_fields(section: type[Section] = Recipe, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key that a recipe may have and its field; those of a source as `data.sources.KIND.KEY`."""
    for name, field in section.model_fields.items():
        if section is DataRecipe and name == "sources":
            for kind, source in SOURCES.items():
                settings = recipe_fields(source, f"{prefix}sources.{kind}.")
                yield from ((key, field) for key, field in settings if not key.endswith(".kind"))
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from recipe_fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _all_keys() -> list[str]:
    return [key for key, _ in recipe_fields()]
