"""What lm-eval computes for the tasks of this folder besides its own metrics."""


def bits_per_byte(doc, results):
    """The log likelihood of a document in nats, and its bytes; lm-eval sums both and divides."""
    [likelihood] = results
    return {"bits_per_byte": (likelihood[0] if isinstance(likelihood, tuple | list) else likelihood, doc["bytes"])}
