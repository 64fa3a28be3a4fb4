"""Multi-token prediction: one more layer, which predicts the token after the next.

Shape suffixes in names: B batch, S positions, D hidden.

This file is copied verbatim into every release as remote code, so it imports only torch and transformers.

Source: DeepSeek-V3 technical report, arXiv 2412.19437, section 2.2. Weights have the names of DeepSeek's checkpoints,
which transformers' `generate(use_mtp=True)`, vLLM and SGLang read.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .attention_axion import AxionRMSNorm
from .configuration_axion import AxionConfig
from .layer_axion import AxionDecoderLayer


class AxionMTPLayer(AxionDecoderLayer):
    """Joins the decoder's output at a position with the next token's embedding, and runs one layer over the result.

    The embedding and the output head are the decoder's. The layer is number `num_hidden_layers`, one more than the
    decoder's last, so its weights are stored as `model.layers.<num_hidden_layers>`.
    """

    def __init__(self, config: AxionConfig, layer_idx: int):
        super().__init__(config, layer_idx)
        self.enorm = AxionRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.hnorm = AxionRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.eh_proj = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.shared_head = nn.ModuleDict({"norm": AxionRMSNorm(config.hidden_size, config.rms_norm_eps)})

    def forward(self, embeddings_BSD: torch.Tensor, hidden_BSD: torch.Tensor, **kwargs) -> torch.Tensor:
        """What the output head reads, `[B, S, D]`.

        Args:
            embeddings_BSD: at position i, the embedding of token i + 1.
            hidden_BSD: at position i, the decoder's normed output, from which token i + 1 is predicted.
            kwargs: as for a layer of the decoder.
        """
        joined_BSx = torch.cat([self.enorm(embeddings_BSD), self.hnorm(hidden_BSD)], dim=-1)
        return self.shared_head["norm"](super().forward(self.eh_proj(joined_BSx), **kwargs))


def mtp_labels(labels_BS: torch.Tensor, position_ids: torch.Tensor | None) -> torch.Tensor:
    """The labels with which the usual next-token loss becomes that of the token after the next, `[B, S]`.

    Where the positions start again, as in every document of a packed window, another document begins, which nothing
    before it predicts.
    """
    labels_BS = F.pad(labels_BS[:, 1:], (0, 1), value=-100)
    if position_ids is not None:
        is_of_another = position_ids[:, 2:] != position_ids[:, :-2] + 2
        labels_BS[:, 1:-1].masked_fill_(is_of_another, -100)
    return labels_BS
