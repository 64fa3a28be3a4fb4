"""Whether a model's probabilities are true: of the answers that it gives with 80%, are 80% right?"""

from __future__ import annotations

import numpy as np

from axion.evaluation.intervals import BOOTSTRAP_SEED, RESAMPLES, wilson_interval
from axion.evaluation.likelihood import encode_ways, losses
from axion.evaluation.questions import ANSWER_TOKENS, phrased_answers
from axion.evaluation.subject import NotApplicable, Subject

BINS = 10


def measure_calibration(subject: Subject) -> dict:
    """The stated probability of the answers to the questions of `phrasings`, against how many of them are right.

    The questions are asked directly. The stated probability of a greedy answer is the product of the probabilities of
    its tokens and of the `<eos>` that ends it, so it is that of the whole answer.

    Returns:
        "answers", how many there are; "accuracy" and "interval"; "stated", the mean stated probability; "error", the
        expected calibration error: the difference of the two in each bin, averaged over the answers; "error_interval";
        "bins": for each of ten equal ranges of the stated probability that has answers "low", "high", "answers",
        "stated", "right" and "interval".

    Source: C. Guo et al., On Calibration of Modern Neural Networks (2017), section 2.
    """
    if subject.release.thinks:
        raise NotApplicable("the model chooses whether to reason first, so it is not asked for direct answers alone")
    asked = subject.once(phrased_answers)
    texts = [(each.prompt, [each.text]) for each in asked]
    ways = encode_ways(subject.release.tokenizer, texts, with_end=True)
    # a text that was cut short has no end yet
    ways = [
        [way._replace(ids=way.ids[:-1]) if len(way.ids) - 1 - way.start >= ANSWER_TOKENS else way] for [way] in ways
    ]
    stated_N = np.exp([-nats for [nats] in losses(subject.release.model, ways)])
    right_N = np.array([each.is_right for each in asked])
    return {"answers": len(asked), **calibration(stated_N, right_N)}


def calibration(stated_N: np.ndarray, right_N: np.ndarray) -> dict:
    """The figures of `measure_calibration`.

    Args:
        stated_N: the stated probability of each answer.
        right_N: whether it is right.
    """
    bins_N = _bins(stated_N)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    draws = (rng.integers(0, len(stated_N), len(stated_N)) for _ in range(RESAMPLES))
    errors = [_error(stated_N[drawn_N], right_N[drawn_N], bins_N[drawn_N]) for drawn_N in draws]
    return {
        "accuracy": float(right_N.mean()),
        "interval": wilson_interval(int(right_N.sum()), len(right_N)),
        "stated": round(float(stated_N.mean()), 6),
        "error": round(_error(stated_N, right_N, bins_N), 6),
        "error_interval": [round(float(bound), 6) for bound in np.percentile(errors, [2.5, 97.5])],
        "bins": [_bin(number, stated_N[bins_N == number], right_N[bins_N == number]) for number in sorted({*bins_N})],
    }


def _bins(stated_N: np.ndarray) -> np.ndarray:
    """The bin of each probability; 1 belongs to the last."""
    return np.minimum((stated_N * BINS).astype(int), BINS - 1)


def _error(stated_N: np.ndarray, right_N: np.ndarray, bins_N: np.ndarray) -> float:
    """The expected calibration error: in each bin, the sum of the answers' differences, over all answers."""
    return float(np.abs(np.bincount(bins_N, right_N - stated_N, BINS)).sum() / len(stated_N))


def _bin(number: int, stated_N: np.ndarray, right_N: np.ndarray) -> dict:
    right = int(right_N.sum())
    return {
        "low": round(number / BINS, 6),
        "high": round((number + 1) / BINS, 6),
        "answers": len(right_N),
        "stated": round(float(stated_N.mean()), 6),
        "right": right / len(right_N),
        "interval": wilson_interval(right, len(right_N)),
    }
