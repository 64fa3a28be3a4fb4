"""Whether a run can fit into memory, estimated before anything is prepared or allocated."""

import torch

from axion.errors import AxionError
from axion.machine import memory_bytes
from axion.params import count_parameters
from axion.recipe import Recipe
from axion.training import parallel

BYTES_PER_PARAMETER = {"muon": 12, "adamw": 12, "adamw8bit": 10}
"""At least: a weight, its gradient and one moment of the optimizer in fp32, or both moments in 8 bits."""


def check_memory(recipe: Recipe) -> None:
    """Refuses a model that is too large to train here, whatever the batch.

    A GPU holds the part of one process, a machine's memory those of all its processes.

    Raises:
        AxionError: the weights, gradients and optimizer's state alone are larger than the memory.
    """
    parameters = count_parameters(recipe.build_config()).total
    sharing = 1 if torch.cuda.is_available() else parallel.local_processes()
    needed = (
        parameters * BYTES_PER_PARAMETER[recipe.training.optimizer] * sharing / recipe.training.distributed.fsdp_size
    )
    memory = memory_bytes()
    if needed > memory:
        raise AxionError(
            f"training {parameters:,} parameters takes at least {needed / 1e9:,.0f} GB of memory, and there are "
            f"{memory / 1e9:,.0f} GB; lower tokenizer.vocab_size or the sizes under architecture, or shard the model "
            "over more GPUs or machines with training.distributed"
        )
