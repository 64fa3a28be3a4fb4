"""Tell the Hub about a release that stands: its series' collection, and the card of the version that it follows."""

import tempfile
from pathlib import Path

from huggingface_hub import metadata_load, metadata_save
from huggingface_hub.errors import HfHubHTTPError

from publish.hub import client as hub

SNIPPET = """from transformers import AutoModelForCausalLM, AutoTokenizer

repo, revision = "{repo_id}", "{revision}"
tokenizer = AutoTokenizer.from_pretrained(repo, revision=revision)
model = AutoModelForCausalLM.from_pretrained(repo, revision=revision, trust_remote_code=True)"""

DESCRIPTION = "Tiny language models with DeepSeek-V3's architecture, trained from scratch on a CPU"
"""Of a collection; the Hub takes at most 150 characters."""


def add_to_collection(repo_id: str, title: str) -> str:
    """Add a model to its owner's collection of this title, which is made where it is missing; twice does no harm.

    Args:
        repo_id: USER/NAME.
        title: the collection's.

    Returns:
        The collection's address, or why there is none: a token may write models and not collections.

    Raises:
        AxionError: the Hub refused, or is not to be reached.
    """
    owner, api = repo_id.partition("/")[0], hub.api()
    with hub.hub_errors(f"the collection {title}"):
        try:
            collection = hub.patiently(
                lambda: api.create_collection(title, namespace=owner, description=DESCRIPTION, exists_ok=True)
            )
            if repo_id not in {item.item_id for item in collection.items}:
                hub.patiently(lambda: api.add_collection_item(collection.slug, repo_id, "model", exists_ok=True))
        except HfHubHTTPError as error:
            if error.response.status_code not in {401, 403}:
                raise
            return "no collection: the token may not write collections"
        return f"in {collection.url}"


def point_to_new_version(old_repo_id: str, new_repo_id: str) -> str | None:
    """Set `new_version` on the card of the version that a new one follows, in one commit of its own.

    Returns:
        What was done; None where the old version has no card on the Hub.

    Raises:
        AxionError: the Hub refused, or is not to be reached.
    """
    parent = hub.head(old_repo_id)
    if parent is None or "README.md" not in hub.files_at(old_repo_id, parent):
        return None
    with tempfile.TemporaryDirectory(prefix="axion-card-") as scratch:
        downloaded = hub.download(old_repo_id, parent, Path(scratch) / "cache", ["README.md"]) / "README.md"
        folder = Path(scratch) / "card"
        folder.mkdir()
        card = folder / "README.md"
        card.write_bytes(downloaded.read_bytes())
        metadata = metadata_load(card) or {}
        if metadata.get("new_version") == new_repo_id:
            return f"{old_repo_id} points to it already"
        metadata_save(card, metadata | {"new_version": new_repo_id})
        hub.push(folder, old_repo_id, f"{new_repo_id} follows this version", parent=parent)
    return f"{old_repo_id} points to it"


def snippet(repo_id: str, revision: str) -> str:
    """Python that loads the release, pinned."""
    return SNIPPET.format(repo_id=repo_id, revision=revision)
