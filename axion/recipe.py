"""Recipes: one YAML file per version, checked to the last key before anything runs.

A recipe is the whole truth about how a model is made: architecture, tokenizer, data, training. `load_recipe` reads one
by name or path, applies `key.path=value` overrides and refuses unknown keys and impossible shapes in one line.
"""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from axion.errors import AxionError, one_line
from axion.families import get_family
from axion.files import ROOT, identify
from axion.model.configuration_axion import AxionConfig

CONFIGS = ROOT / "configs"

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
Paths = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


def _known_family(name: str) -> str:
    try:
        return get_family(name).name
    except AxionError as error:
        raise ValueError(str(error)) from None


class Section(BaseModel):
    """Base of every part of a recipe: immutable, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TokenizerRecipe(Section):
    vocab_size: Positive = 1024
    """Tokens in the vocabulary, the special ones and the 256 bytes included."""


class LocalFile(Section):
    """A local data file as a release remembers it: by name and content, never by path."""

    name: str
    sha256: str


class DataRecipe(Section):
    """Where the text comes from. Local `files` win over the Hub; with neither, the data is synthetic only."""

    hub_id: str | None = "openai/gsm8k"
    """Data set on the Hub, its train split for training and its test split for evaluation."""
    hub_config: str | None = "main"
    files: Paths | None = None
    """Local JSONL files instead of the Hub's train split; one path or a list."""
    test_files: Paths | None = None
    """Local JSONL files instead of the Hub's test split; nothing trains on them."""
    local_files: list[LocalFile] | None = None
    """Filled in by a release: what `files` were."""
    question_field: str = "question"
    answer_field: str = "answer"
    direct_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the real training problems that appear in the direct form too, without their reasoning."""
    arithmetic: Count = 36_000
    """Synthetic sums and differences."""
    word_problems: Count = 1_500
    """Synthetic multi-step word problems."""
    max_documents: Positive | None = None
    """At most this many documents in all, for quick trials."""
    seed: Count = 1
    val_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of documents held out for validation, by a hash of their text."""
    split_seed: Count = 0
    holdout_fraction: Share = 0.05
    """Share of operand pairs that no training document contains, so that arithmetic is tested on unseen pairs."""


class TrainingRecipe(Section):
    """How the weights are found. Steps are optimizer steps."""

    window: Positive = 512
    """Tokens per training sequence."""
    short_window: Positive | None = None
    """Cut every window into pieces of this length for the first `short_share` of the steps: attention then costs less,
    and the rest of the run teaches the whole window."""
    short_share: Share = 0.75
    batch_size: Positive = 8
    """Windows per optimizer step, over gradient accumulation and all processes together."""
    grad_accum: Positive = 1
    """Into how many parts a process cuts its share of the batch."""
    epochs: Positive = 20
    max_steps: Positive | None = None
    """Stop after this many steps, whatever `epochs` says."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: Muon for the matrices and experts, AdamW for embeddings, norms and router; adamw: AdamW for all."""
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
    schedule: Literal["wsd", "cosine"] = "wsd"
    """wsd: warm-up, constant, then linear decay over `decay_fraction`; cosine: warm-up, then half a cosine."""
    warmup_steps: Count = 40
    decay_fraction: Annotated[float, Field(ge=0, le=1)] = 0.65
    final_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Learning rate at the last step, as a share of the peak."""
    max_grad_norm: Rate = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """auto: bf16 autocast where the processor multiplies bf16 matrices."""
    compile: bool = False
    """torch.compile; the first steps take up to a minute longer."""
    bias_update_speed: Annotated[float, Field(ge=0)] = 1e-3
    """γ: how far each routing bias moves after a step towards an even load; 0 leaves them alone."""
    sequence_balance_weight: Annotated[float, Field(ge=0)] = 0.0
    """α of the sequence-wise balance loss; 0 is off."""
    evaluations: Positive = 20
    """How often the validation loss is measured in a run."""
    checkpoints: Positive = 20
    """How often a checkpoint is saved in a run; the last two are kept."""
    trackers: list[Literal["tensorboard", "trackio"]] = []
    """Trackers to report to besides metrics.csv, if installed."""


class Recipe(Section):
    """A version: everything that is needed to make its model again."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    title: str
    family: Annotated[str, AfterValidator(_known_family)]
    """A name in `axion.families.FAMILIES`."""
    version: str
    repo_name: str
    """The repository's name on the Hub, without the user's."""
    license: str = "mit"
    languages: list[str] = ["en", "pt"]
    seed: Count = 1
    """Seeds initialisation and the order of the data."""
    architecture: dict[str, Any]
    """Fields of AxionConfig; the vocabulary's size comes from the tokenizer."""
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    data: DataRecipe = DataRecipe()
    training: TrainingRecipe = TrainingRecipe()

    @model_validator(mode="after")
    def _shapes_can_be_built(self):
        types = AxionConfig.__annotations__
        known = set(types) - {"vocab_size"}
        for key, value in self.architecture.items():
            if key not in known:
                raise ValueError(f"architecture.{key} is unknown{_nearest(key, known)}")
            # YAML reads 1e-6, without a dot, as text: a number where a number belongs
            strict = types[key] is not float
            try:
                self.architecture[key] = TypeAdapter(types[key]).validate_python(value, strict=strict)
            except ValidationError as error:
                raise ValueError(f"architecture.{key} is {value!r}; {_lower(error.errors()[0]['msg'])}") from None
        try:
            config = self.build_config()
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"architecture.{one_line(error)}") from None
        if self.training.window > config.max_position_embeddings:
            raise ValueError(
                f"training.window is {self.training.window}; it must be at most "
                f"architecture.max_position_embeddings ({config.max_position_embeddings})"
            )
        if self.training.window % (self.training.short_window or 1):
            raise ValueError(
                f"training.short_window is {self.training.short_window}; it must divide training.window "
                f"({self.training.window})"
            )
        return self

    def build_config(self) -> AxionConfig:
        """The model's configuration, with the tokenizer's vocabulary size."""
        return AxionConfig(vocab_size=self.tokenizer.vocab_size, **self.architecture)

    def to_yaml(self) -> str:
        """The recipe as a release carries it: local data files by name and sha256 instead of by path."""
        content = self.model_dump(mode="json", exclude={"data": {"files", "test_files"}})
        content["data"]["local_files"] = identify(self.data.files or ()) or None
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def known_versions() -> list[str]:
    """Names of the recipes in configs/."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def load_recipe(version: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe by name (configs/NAME.yaml) or YAML path and applies `key.path=value` overrides.

    Values are read as YAML: `training.epochs=2`, `data.files=[a.jsonl, b.jsonl]`, `data.hub_id=null` do what they say.

    Raises:
        AxionError: no such recipe, not YAML, an unknown key, a value of the wrong type, a shape that cannot be built.
    """
    path = Path(version)
    if path.suffix not in {".yaml", ".yml"}:
        path = CONFIGS / f"{version}.yaml"
        if not path.is_file():
            raise AxionError(f"no recipe named {version!r}; known: {', '.join(known_versions())}, or give a YAML file")
    content = read_recipe(path)
    for override in overrides:
        _apply(content, override)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise AxionError(f"{path.name}: {_first_error(error)}") from None


def read_recipe(path: Path) -> dict[str, Any]:
    """The keys and values of a recipe's file, not yet checked. Raises AxionError where they cannot be read."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AxionError(f"cannot read the recipe {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AxionError(f"{path} is not valid YAML: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise AxionError(f"{path} is not a recipe; it must be a mapping with at least name, title and architecture")
    return content


def _apply(content: dict, override: str) -> None:
    key, separator, value = override.partition("=")
    *parents, last = key.strip().split(".")
    if not separator or not last:
        raise AxionError(f"--set takes key.path=value, for example training.epochs=2; got {override!r}")
    node = content
    for depth, name in enumerate(parents):
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise AxionError(f"--set {override!r}: {'.'.join(parents[: depth + 1])} holds no keys of its own")
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise AxionError(f"--set {override!r}: the value is not valid YAML") from None


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{key} is unknown{_nearest(key, _all_keys(Recipe))}"
    if first["type"] == "missing":
        return f"{key} is missing"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    return f"{key} is {first['input']!r}; {_lower(first['msg'])}"


def _all_keys(section: type[Section], prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        keys += _all_keys(field.annotation, f"{prefix}{name}.") if nested else [prefix + name]
    return keys


def _nearest(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(known))}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
