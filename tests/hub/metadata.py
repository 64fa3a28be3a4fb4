"""POST /api/validate-yaml: what the Hub accepts in the front matter of a card.

The licences: https://huggingface.co/docs/hub/repositories-licenses; the tasks: https://huggingface.co/tasks; the fields
of a Space: https://huggingface.co/docs/hub/spaces-config-reference.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import yaml
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from tests.hub.wire import Caller, Strict

router = APIRouter()
_LICENSES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1
ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1
llama3.2 llama3.3 llama4 grok2-community gemma apple-ascl apple-amlr intel-research h-research unknown other
"""
LICENSES = set(_LICENSES.split())
_TASKS = """
text-classification token-classification table-question-answering question-answering zero-shot-classification
translation summarization feature-extraction text-generation fill-mask sentence-similarity text-to-speech
text-to-audio automatic-speech-recognition audio-to-audio audio-classification audio-text-to-text
voice-activity-detection depth-estimation image-classification object-detection image-segmentation text-to-image
image-to-text image-to-image image-to-video unconditional-image-generation video-classification
reinforcement-learning robotics tabular-classification tabular-regression tabular-to-text table-to-text
multiple-choice text-ranking text-retrieval time-series-forecasting text-to-video image-text-to-text
image-text-to-image image-text-to-video visual-question-answering document-question-answering
zero-shot-image-classification graph-ml mask-generation zero-shot-object-detection text-to-3d image-to-3d
image-feature-extraction video-text-to-text keypoint-detection visual-document-retrieval any-to-any video-to-video
other
"""
TASKS = set(_TASKS.split())
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
RELATIONS = {"finetune", "quantized", "merge", "adapter"}
SDKS = {"gradio", "docker", "static", "streamlit"}
REPO_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}|[\w.-]{1,96}")
FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)


class Content(Strict):
    content: str
    repoType: Literal["model", "dataset", "space"]


def front_matter(text: str) -> tuple[dict, str | None]:
    """A card's metadata, and errors in its YAML."""
    match = FRONT_MATTER.match(text)
    if not match:
        return {}, None
    try:
        data = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        return {}, f"YAML Metadata Error: {str(error).splitlines()[0]}"
    if data is not None and not isinstance(data, dict):
        return {}, "YAML Metadata Error: the metadata must be a mapping"
    return data or {}, None


def as_list(value: Any) -> list:
    """The values of a field that takes one value or a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def one_of(card: dict, key: str, allowed: set[str]) -> list[str]:
    """Errors of a field with a fixed set of values."""
    wrong = [value for value in as_list(card[key]) if value not in allowed] if key in card else []
    return [f'"{key}" must be one of [{", ".join(sorted(allowed))}], not {value!r}' for value in wrong]


def strings(card: dict, key: str) -> list[str]:
    """Errors of a field that takes a string or a list of strings."""
    if key not in card or all(isinstance(value, str) for value in as_list(card[key])):
        return []
    return [f'"{key}" must be a string or an array of strings']


def model_index(value: Any) -> list[str]:
    """Errors of the results in a model card."""
    required = {"task": ("type",), "dataset": ("type", "name")}
    if not isinstance(value, list) or not value:
        return ['"model-index" must be an array']
    errors = []
    for number, model in enumerate(value):
        where = f"model-index[{number}]"
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            return [f'"{where}.name" is required']
        if not isinstance(model.get("results"), list):
            return [f'"{where}.results" is required']
        for place, result in enumerate(model["results"]):
            here = f"{where}.results[{place}]"
            for part, keys in required.items():
                found = result.get(part) if isinstance(result, dict) else None
                errors += [
                    f'"{here}.{part}.{key}" is required'
                    for key in keys
                    if not isinstance(found, dict) or not isinstance(found.get(key), str)
                ]
            metrics = result.get("metrics") if isinstance(result, dict) else None
            if not isinstance(metrics, list) or not metrics:
                errors.append(f'"{here}.metrics" is required')
                continue
            for index, metric in enumerate(metrics):
                errors += [
                    f'"{here}.metrics[{index}].{key}" is required'
                    for key in ("type", "value")
                    if metric.get(key) is None
                ]
    return errors


def languages(card: dict) -> list[str]:
    wrong = [
        code for code in as_list(card.get("language")) if not re.fullmatch(r"[a-z]{2,3}|code|multilingual", str(code))
    ]
    return [
        f'"language" with value "{code}" is not valid. It must be an ISO 639-1, 639-2 or 639-3 code (two/three '
        'letters), or a special value like "code", "multilingual".'
        for code in wrong
    ]


def of_space(card: dict) -> list[str]:
    errors = one_of(card, "sdk", SDKS) + one_of(card, "colorFrom", COLORS) + one_of(card, "colorTo", COLORS)
    if card and "sdk" not in card:
        errors.append('"sdk" is required')
    if len(str(card.get("short_description", ""))) > 60:
        errors.append('"short_description" length must be less than or equal to 60 characters long')
    for key in ("sdk_version", "python_version"):
        if key in card and not isinstance(card[key], str):
            errors.append(f'"{key}" must be a string')
    return errors


def problems(text: str, repo_type: str) -> tuple[list[str], list[str]]:
    """The errors and the warnings for a card."""
    card, broken = front_matter(text)
    if broken:
        return [broken], []
    if not card:
        return [], ["empty or missing yaml metadata in repo card"]
    errors = one_of(card, "license", LICENSES) + languages(card)
    for key in ("tags", "datasets", "base_model", "metrics", "models"):
        errors += strings(card, key)
    for base in as_list(card.get("base_model")):
        if not REPO_ID.fullmatch(str(base)):
            errors.append(f'"base_model" with value "{base}" is not valid. Use a model id from https://hf.co/models.')
    if repo_type == "space":
        errors += of_space(card)
    if repo_type == "model":
        errors += one_of(card, "pipeline_tag", TASKS) + one_of(card, "base_model_relation", RELATIONS)
        if "model-index" in card:
            errors += model_index(card["model-index"])
    if card.get("license") == "other" and "license_name" not in card:
        errors.append('"license_name" is required when license is "other"')
    warnings = [
        f'"datasets" with value "{name}" is not valid. If possible, use a dataset id from https://hf.co/datasets.'
        for name in as_list(card.get("datasets"))
        if not REPO_ID.fullmatch(str(name))
    ]
    return errors, warnings


@router.post("/api/validate-yaml")
async def validate(body: Content, token: Caller):
    errors, warnings = problems(body.content, body.repoType)
    answer = {
        "errors": [{"message": message} for message in errors],
        "warnings": [{"message": message} for message in warnings],
    }
    return JSONResponse(answer, 400 if errors else 200)
