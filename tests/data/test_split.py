"""Which documents are held out for validation."""

import random

from axion.data.split import HeldOut, Split


def test_the_held_out_documents_do_not_depend_on_the_order():
    split = Split(fraction=0.5, seed=1, holdout_fraction=0.0, max_validation_bytes=2000)
    rng = random.Random(0)
    documents = [f"{number} " + "x" * rng.choice([10, 10, 900]) for number in range(60)]
    documents += documents[:10]  # a document may occur twice
    ranked = sorted(documents, key=split.rank)
    fitting = next(count for count in range(60) if len("".join(ranked[: count + 1]).encode()) > 2000)
    for _ in range(30):
        rng.shuffle(documents)
        held_out = HeldOut[str](split)
        for document in documents:
            held_out.add(document, document)
        assert sorted(held_out.kept()) == sorted(ranked[:fitting])
        assert held_out.left_out == len(documents) - fitting
