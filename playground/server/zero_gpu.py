"""A function for ZeroGPU, the Hub's shared hardware, which starts a Space only if one of its functions asks for a GPU.

The page never calls it: its models run on the CPU everywhere. One core generates the text of these small models faster
than people read, while on a GPU each generation would wait in a queue, start a process, and use up the visitor's quota.
"""

from collections.abc import Callable

try:
    from spaces import GPU  # pyright: ignore[reportMissingImports] (installed on every Gradio Space)
except ImportError:

    def GPU(function: Callable) -> Callable:
        """In place of `spaces.GPU` where that is not installed."""
        return function


@GPU
def hold_gpu() -> None:
    """The function that ZeroGPU looks for when the page starts."""
