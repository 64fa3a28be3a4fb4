"""Sharded models: FSDP2 and expert parallelism of transformers' own `DistributedConfig`, under torchrun.

Each process holds a part of every weight, of its gradient and of the optimizer's state: torch's `DTensor`s, cut along
the first dimension. With `ep_size` whole experts stay in place, and the tokens travel to them; everything else is
gathered for the moment in which a layer computes. Checkpoints are written whole, in the format of a run that is not
sharded, so that a run continues on any number of processes.

Shape suffixes in names: N matrices, R rows, C columns; r rows and n matrices of this process.
"""

import logging
from collections.abc import Callable, Sequence

import torch
import transformers
from torch import nn
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.utils._pytree import tree_map_only
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.utils.versions import require_version_core

from axion.errors import AxionError
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.recipe import DistributedRecipe, Recipe
from axion.training import parallel
from axion.training.build import build_model

NEEDED = "transformers>=5.24"
"""Earlier versions shard the experts by another plan."""


def check_sharding(recipe: Recipe, processes: int) -> None:
    """Checks that a recipe can be sharded over so many processes.

    Raises:
        AxionError: it cannot, or the installed transformers is too old; the message names what to change.
    """
    settings = recipe.training.distributed
    if not settings.is_sharded:
        return
    try:
        require_version_core(NEEDED)
    except ImportError:
        installed = f"training.distributed needs {NEEDED}, and {transformers.__version__} is installed"
        raise AxionError(f'{installed}; pip install "{NEEDED}", or set training.distributed.fsdp_size=1') from None
    if processes % settings.fsdp_size:
        raise AxionError(
            f"training.distributed.fsdp_size is {settings.fsdp_size}; it must divide the number of processes "
            f"({processes}, torchrun's --nproc-per-node times --nnodes)"
        )
    if recipe.lora:
        raise AxionError("lora does not work with training.distributed; train the whole model, or set fsdp_size to 1")
    if recipe.training.compile:
        raise AxionError("training.compile does not work with training.distributed; set one of the two to its default")


class TiedAxionForCausalLM(AxionForCausalLM):
    """An `AxionForCausalLM` whose weights are tied before they are sharded, for loading alone.

    transformers ties them afterwards, when FSDP2 manages the embeddings and the head as two weights. Where the rows are
    not divided evenly, it pads each of them in memory of its own, and the optimizer updates only one of the two:
    https://github.com/pytorch/pytorch/issues/176076.
    """

    def __init__(self, config: AxionConfig):
        super().__init__(config)
        if config.num_nextn_predict_layers:
            self.attach_mtp()

    @classmethod
    def maybe_distribute_model(cls, model: nn.Module, distributed_config, mesh_manager):
        assert isinstance(model, AxionForCausalLM)
        model.__class__ = AxionForCausalLM  # checkpoints record the name
        if model.config.tie_word_embeddings:
            model.tie_weights(recompute_mapping=False)
            # named in no rule, both belong to the group of the whole model, which recognises them as one
            both = ("model.embed_tokens", "lm_head")
            model.fsdp_plan = {name: rule for name, rule in model.fsdp_plan.items() if name not in both}
        return super().maybe_distribute_model(model, distributed_config, mesh_manager)


def shard(model: AxionForCausalLM, settings: DistributedRecipe, processes: int) -> AxionForCausalLM:
    """A sharded model with a model's weights, which have to be the same in every process.

    Groups of `fsdp_size` processes each hold one copy of the model. Every process has to call this.
    """
    logging.getLogger("torch.distributed.tensor").setLevel(logging.ERROR)  # it warns of every slow exchange
    sharded = TiedAxionForCausalLM.from_pretrained(
        None,
        config=model.config,
        state_dict=model.state_dict(),
        dtype=model.dtype,
        distributed_config=DistributedConfig(
            fsdp_size=settings.fsdp_size,
            dp_replicate_size=processes // settings.fsdp_size,
            ep_size=settings.ep_size,
        ),
    )
    gather_weights = sharded.gather_sharded_state_dict_for_save

    def gather_once(*arguments, **options) -> dict[str, torch.Tensor]:
        """transformers gathers a tied weight under each of its names, and would save both."""
        weights = gather_weights(*arguments, **options)
        return {name: weight for name, weight in weights.items() if name not in sharded.all_tied_weights_keys}

    sharded.gather_sharded_state_dict_for_save = gather_once
    return sharded


def unshard(model: AxionForCausalLM, config: AxionConfig) -> AxionForCausalLM:
    """A whole model with a sharded one's weights, in the main process; its weights are not set in the others.

    Every process has to call this.
    """
    weights = gather(model.state_dict())
    with torch.device("cpu" if parallel.is_main_process() else "meta"):
        whole = build_model(config)
    if parallel.is_main_process():
        whole.load_state_dict(weights)
    return whole


def held(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds, in the tensor's own memory; all of it where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gather(state: dict) -> dict:
    """A nested dictionary with every sharded tensor whole and on the CPU, or None in all but the main process.

    Every process has to call this.
    """

    def whole(tensor: DTensor) -> torch.Tensor | None:
        gathered = tensor.full_tensor()
        return gathered.cpu() if parallel.is_main_process() else None

    return tree_map_only(DTensor, whole, state)


def shard_like(whole: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole tensor, the same in every process, sharded as a parameter of its shape is; as it is if that is not."""
    if not isinstance(parameter, DTensor) or whole.shape != parameter.shape:
        return whole
    mesh = parameter.device_mesh
    # of several shards along one dimension, transformers has torch keep some in another order
    plain = [Replicate() if placement.is_replicate() else Shard(0) for placement in parameter.placements]
    sharded = distribute_tensor(whole.to(mesh.device_type), mesh, plain, src_data_rank=None)
    return sharded.redistribute(placements=parameter.placements)


def same_mesh(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The parameters by device mesh, in order: a fused optimizer step does not take those of several meshes at once."""
    by_mesh: dict[object, list[nn.Parameter]] = {}
    for parameter in parameters:
        by_mesh.setdefault(parameter.device_mesh if isinstance(parameter, DTensor) else None, []).append(parameter)
    return list(by_mesh.values())


def has_part_of_matrix(parameter: torch.Tensor) -> bool:
    """Whether this process may hold a part of a matrix. Stacks of matrices are sharded into whole matrices."""
    return isinstance(parameter, DTensor) and parameter.ndim == 2


def on_whole_matrices(
    work: Callable[[torch.Tensor], torch.Tensor], parts_rC: list[torch.Tensor], like: DTensor
) -> list[torch.Tensor]:
    """Applies a function of matrices `[n, R, C]` to matrices of which each process holds some rows.

    The processes exchange rows so that each gets whole matrices, an equal share of them, and exchange the result back.

    Args:
        work: gives a result of the same shape.
        parts_rC: this process's rows of N matrices.
        like: one of the matrices as it is sharded.

    Returns:
        This process's rows of the N results.
    """
    mesh, shape = like.device_mesh, (len(parts_rC), *like.shape)
    layout = {"shape": torch.Size(shape), "stride": (shape[1] * shape[2], shape[2], 1), "run_check": False}
    by_rows = [Shard(1) if placement.is_shard() else placement for placement in like.placements]
    by_matrix = [Shard(0) if placement.is_shard() else placement for placement in like.placements]
    parts_NrC = DTensor.from_local(torch.stack(parts_rC), mesh, by_rows, **layout)
    whole_nRC = parts_NrC.redistribute(placements=by_matrix).to_local()
    results_nRC = DTensor.from_local(work(whole_nRC), mesh, by_matrix, **layout)
    return list(results_nRC.redistribute(placements=by_rows).to_local().unbind())
