"""What a model loses without each of its experts: measured when asked for, over its release's held-out documents."""

import json
from threading import Lock
from weakref import WeakKeyDictionary

from axion.evaluation.experts import measure_absences
from axion.inference.stream import encode_prompt
from axion.release import Release
from axion.tokenizer import bos_and_eos
from playground.generate.catalogue import OpenModel
from playground.generate.refusal import Refusal

MOST_WORK = 10**12
"""Products of weights and tokens in one measurement; the kernels need about half a minute for them."""

_measured: WeakKeyDictionary[Release, dict] = WeakKeyDictionary()
_lock = Lock()


def absences_json(model: OpenModel) -> str:
    """The measurement for the view, made once for each release; others wait for it.

    See `axion.evaluation.experts.measure_absences`; "layers" says which layers have experts.

    Raises:
        AxionError: the release has no held-out documents or no experts, or is too large to be measured here.
    """
    with _lock:
        if model.release not in _measured:
            _measured[model.release] = _measure(model)
        return json.dumps(_measured[model.release], separators=(",", ":"), allow_nan=False)


def _measure(model: OpenModel) -> dict:
    release, facts = model.release, model.facts
    if not release.held_out:
        raise Refusal("no_held_out", model=model.name)
    tokenizer = release.tokenizer
    _, eos = bos_and_eos(tokenizer)
    texts = [[*encode_prompt(tokenizer, text), eos] for text in release.held_out]
    readings = facts.mixture_layers * facts.experts + 1
    if sum(map(len, texts)) * readings * facts.active > MOST_WORK:
        raise Refusal("too_large", model=model.name)
    measured = measure_absences(release.model, texts)
    layers = [index + 1 for index in release.config.mixture_layers]
    return {"model": model.name, "experts": facts.experts, "layers": layers, **measured}


def absences_error(text: str) -> str:
    """The view's value where nothing can be measured; `text` says why, in the visitor's language."""
    return json.dumps({"error": text})
