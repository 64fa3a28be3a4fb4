"""ZeroGPU, the Hub's shared hardware: it starts no Space that has not at least one function to lend a GPU to.

The page has one and never calls it, because its models run on the processor, there as everywhere. One core writes
these small models' texts faster than they are read, while a GPU would cost each generation a wait in the queue, a new
process, and a minute of the visitor's daily share of a few.
"""

from collections.abc import Callable

try:
    from spaces import GPU  # every Gradio Space has it; it does nothing on other hardware
except ImportError:

    def GPU(function: Callable) -> Callable:
        """Stands for `spaces.GPU` where that is not installed."""
        return function


@GPU
def hold_gpu() -> None:
    """What ZeroGPU looks for while the page starts."""
