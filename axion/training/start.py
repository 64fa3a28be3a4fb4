"""Training that starts from the weights and the tokenizer of a release, on other data."""

from pydantic import ValidationError

from axion.checksums import remembered_sha256
from axion.data.recipe import TokenizerRecipe
from axion.errors import AxionError
from axion.model.configuration_axion import AxionConfig
from axion.model.shape_axion import AxionShape
from axion.recipe import Recipe, StartRecipe, read_recipe
from axion.release import Release
from axion.tokenizer import SPECIAL_IDS, SPECIAL_TOKENS
from axion.training.finetune import start_of

MAY_DIFFER = {
    *("vocab_size", *SPECIAL_IDS),  # these are the tokenizer's
    *("attention_dropout", "dropout", "initializer_range", "use_cache", "output_router_logits"),
    "num_loops",  # of the same shared layers
    "num_nextn_predict_layers",  # a layer apart from the decoder's, which is left out or starts at random
}
"""Fields of a configuration that do not say what the weights mean."""


def starting_from(recipe: Recipe, release: Release) -> Recipe:
    """The recipe of a run that starts from a release. It is trained by `axion.training.run.train` with `start=release`.

    Raises:
        AxionError: the recipe's architecture is not that of the release, or its tokenizer is not known.
    """
    ours, theirs = AxionConfig(**recipe.architecture), release.config
    for name in AxionShape.__annotations__:
        if name not in MAY_DIFFER and getattr(ours, name) != getattr(theirs, name):
            raise AxionError(
                f"architecture.{name} is {getattr(ours, name)} in the recipe and {getattr(theirs, name)} in "
                f"{release.name}; --from needs the same architecture"
            )
    update = {"start": StartRecipe(**start_of(release)), "tokenizer": _tokenizer(release)}
    return recipe.model_copy(update=update)


def _tokenizer(release: Release) -> TokenizerRecipe:
    """The tokenizer section: of one that Axion trained its checksum, of others what the release's recipe says."""
    known = release.tokenizer.get_vocab()
    if all(known.get(token) == index for index, token in enumerate(SPECIAL_TOKENS)):
        checksum = remembered_sha256(release.folder / "tokenizer.json")
        return TokenizerRecipe(kind="start", vocab_size=release.config.vocab_size, sha256=checksum)
    if release.recipe_file is None:
        raise AxionError(f"{release.name} has no recipe.yaml, which says whose tokenizer it has")
    try:
        section = TokenizerRecipe.model_validate(read_recipe(release.recipe_file)["tokenizer"])
    except (KeyError, ValidationError):
        raise AxionError(f"{release.recipe_file} does not say whose tokenizer {release.name} has") from None
    # the folder that it came from may be gone, and the release has a copy
    return section if section.sha256 is None else TokenizerRecipe(kind="hub", id=str(release.folder))
