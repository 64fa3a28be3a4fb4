"""After a release: add it to its series' collection, and link to it from the version that it follows."""

import shutil

from huggingface_hub import metadata_save
from huggingface_hub.errors import HfHubHTTPError

from axion.errors import one_line
from publish.hub import client as hub
from publish.hub.errors import hub_errors, retry
from publish.markdown import split_front_matter
from publish.scratch import scratch_folder

SNIPPET = """from transformers import AutoModelForCausalLM, AutoTokenizer

repo, revision = "{repo_id}", "{revision}"
tokenizer = AutoTokenizer.from_pretrained(repo, revision=revision, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(repo, revision=revision, trust_remote_code=True)"""

DESCRIPTION = "Tiny language models that are made to be studied, trained from scratch with Axion"
"""Of a collection; the Hub allows 150 characters."""


def add_to_collection(repo_id: str, title: str) -> str:
    """Add a model to its owner's collection of this title, which is created if it does not exist. Idempotent.

    Args:
        repo_id: USER/NAME.
        title: the collection's title.

    Returns:
        The collection's URL, or why there is none: a token may have write access to models but not to collections.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    owner, api = repo_id.partition("/")[0], hub.api()
    with hub_errors(f"the collection {title}"):
        try:
            collection = retry(
                lambda: api.create_collection(title, namespace=owner, description=DESCRIPTION, exists_ok=True)
            )
            if repo_id not in {item.item_id for item in collection.items}:
                retry(lambda: api.add_collection_item(collection.slug, repo_id, "model", exists_ok=True))
        except HfHubHTTPError as error:
            if error.response.status_code not in {401, 403}:
                raise
            return "no collection: the token has no write access to collections"
        return f"in {collection.url}"


def link_to_new_version(old_repo_id: str, new_repo_id: str) -> str | None:
    """Set `new_version` on the card of the preceding version, in one commit.

    Returns:
        What was done, or why nothing was: others may have edited the card, and a token may be for one repository alone;
        None if the old version has no card on the Hub.

    Raises:
        AxionError: the Hub refused, or cannot be reached.
    """
    parent = hub.head(old_repo_id)
    if parent is None or "README.md" not in hub.files_at(old_repo_id, parent):
        return None
    with scratch_folder("card") as scratch:
        folder = scratch / "card"
        folder.mkdir()
        card = folder / "README.md"
        shutil.copyfile(hub.download(old_repo_id, parent, scratch / "cache", ["README.md"]) / "README.md", card)
        try:
            metadata = split_front_matter(card.read_text(encoding="utf-8-sig"))[1] or {}
            if not isinstance(metadata, dict):
                raise ValueError("its front matter is not a YAML mapping")
            if metadata.get("new_version") == new_repo_id:
                return f"{old_repo_id} already links to it"
            metadata_save(card, metadata | {"new_version": new_repo_id})
        except ValueError as error:
            return f"no link from {old_repo_id}, whose card cannot be read: {one_line(error, 100)}"
        if not hub.may_write(old_repo_id):
            return f"no link from {old_repo_id}: the token has no write access to it"
        hub.push(folder, old_repo_id, f"Link to the new version {new_repo_id}", parent=parent)
    return f"{old_repo_id} links to it"


def snippet(repo_id: str, revision: str) -> str:
    """Python that loads the release at a fixed revision."""
    return SNIPPET.format(repo_id=repo_id, revision=revision)
