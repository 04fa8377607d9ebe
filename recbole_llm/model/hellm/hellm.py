"""HeLLM: a language model that reads a user's items as embeddings, with a graph prefix.

Reference: X. Guo et al., "HeLLM: Multi-Modal Hypergraph Enhanced LLM Learning for Recommendation",
arXiv:2504.10541 (equation numbers below). Stages 1 and 2 (HeLLMPretrain, SASRecCausal) are trained
first; this is stage 3. Where the paper is silent (prompt, MLPs, LoRA targets) the authors' code
decides.

Departs from the paper and the authors' code:

- ``training: windows`` trains every item of a window in one forward pass. Its graph prefix is
  causal: item j and the answer after it attend to the prefix pooled from the items up to j (a
  running sum of eq. 8), in training and in ranking; the head of the prompt attends to none. In the
  paper every token attends to the prefix of the whole input, as with ``training: prefixes``.
  Without a graph prefix both give the same loss.
- Score head: the paper limits "the classification space" to the items and says no more. In the
  authors' code it is a random linear layer that is never trained (``head: frozen``). ``head: tied``
  scores by the frozen item table, ``head: full`` trains a linear layer.
- Both frozen tables are scaled to unit variance before the item MLP, so that neither drowns the
  other, and an item starts as large as a word.
- The item MLP's inner width and that of MLP_K and MLP_V are settings (``item_mlp_size``,
  ``prefix_mlp_size``); in the code they are 4096, the width of LLaMA-2-7B, and MLP_K and MLP_V end
  in another GELU and dropout, here in a linear layer.
- Norms: the paper's RMSNorm of eq. 10 (the code defines it and does not use it) and the code's
  RMSNorm behind the learnable parameters (of which the paper says nothing) are both here. The
  latter's weights start at each layer's own input norm, so that a prefix enters as large as words.
- Pooling: the paper's W of eq. 9 (the code has none); padding is not pooled (in the code's
  training it is, by a slip).
- The history is hidden from the ranking (``mask_history: true``); the authors hide nothing. The
  epoch is chosen by validation; the authors' numbers are those of the best epoch on test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.llm.cache import LayerStates
from recbole_llm.llm.item_recommender import ITEM_SETTINGS, ItemRecommender
from recbole_llm.llm.recommender import unit_variance
from recbole_llm.llm.skeleton import Skeleton
from recbole_llm.model.base import ModelHooks
from recbole_llm.model.hellm.causal_prefix import causal_states
from recbole_llm.model.hellm.prefix import (
    GraphPrefix,
    check_prefix,
    input_scales,
    prefix_cache,
)
from recbole_llm.registry import StageSpec
from recbole_llm.settings.group import MapOf, Optional, Settings
from recbole_llm.settings.values import Bool, Float, Int

if TYPE_CHECKING:
    from transformers import DynamicCache

_GRAPH = StageSpec("HeLLMPretrain", keys=("use_u2u", "use_i2i", "use_cl"))
_SEQUENCE = StageSpec("SASRecCausal")


class HeLLM(ItemRecommender, ModelHooks):
    """I: items, counting padding id 0. B: batch. S: history length. h: the LLM's hidden size.

    Config keys: those of ``ItemRecommender``, ``item_mlp_size``, ``n_prefix`` ``pool_dim``
    ``prefix_mlp_size`` ``prefix_dropout``, and the switches ``use_graph_prefix`` ``use_graph_id``
    ``use_seq_id`` (Table IV; ``use_u2u`` ``use_i2i`` ``use_cl`` go to stage 1).

    Args:
        config: settings.
        dataset: the training part.
        stage_outputs: "graph" and "sequence", each with ``item_embedding`` (I, d).
    """

    settings = ITEM_SETTINGS | Settings(
        graph_stage=MapOf(),
        sequence_stage=MapOf(),
        use_u2u=Bool(),
        use_i2i=Bool(),
        use_cl=Bool(),
        use_graph_id=Bool(),
        use_seq_id=Bool(),
        use_graph_prefix=Bool(),
        item_mlp_size=Optional(Int(1)),
        n_prefix=Int(1),
        pool_dim=Int(1),
        prefix_mlp_size=Int(1),
        prefix_dropout=Float(0, below=1),
    )

    graph_table: Tensor  # (I, d) frozen E^Graph

    @classmethod
    def required_stages(cls, config: Config) -> dict[str, StageSpec]:
        """Return the earlier stages that the switches leave in use."""
        stages = {}
        if config["use_graph_prefix"] or config["use_graph_id"]:
            stages["graph"] = _GRAPH
        if config["use_seq_id"]:
            stages["sequence"] = _SEQUENCE
        return stages

    @classmethod
    def check_settings(cls, config: Config) -> None:
        """Check the switches, and the pooling width against the graph stage's.

        Raises:
            ValueError: no embedding is left for the items, or ``pool_dim`` is too large, or a
                setting has no effect together with another one.
        """
        super().check_settings(config)
        if not (config["use_graph_id"] or config["use_seq_id"]):
            raise ValueError(
                "use_graph_id and use_seq_id are both false: no embedding is left for the items."
            )
        if config["use_graph_prefix"]:
            width, pool_dim = config.stages["graph"]["embedding_size"], config["pool_dim"]
            if pool_dim > width:
                raise ValueError(
                    f"pool_dim must be in 1..{width}, the graph embeddings' width "
                    f"(graph_stage.embedding_size), got pool_dim={pool_dim}."
                )

    @classmethod
    def check_layers(cls, config: Config, skeleton: Skeleton) -> None:
        """Check that every layer takes a graph prefix, and sees it over the longest prompt.

        Raises:
            ValueError: a layer that the settings need is missing, or its window is too short.
        """
        super().check_layers(config, skeleton)
        if config["use_graph_prefix"]:
            check_prefix(skeleton.model, config["n_prefix"])
            cls.check_length(config, skeleton, n_more=config["n_prefix"])

    def __init__(
        self,
        config: Config,
        dataset: MultimodalDataset,
        stage_outputs: Mapping[str, dict[str, Tensor]],
    ) -> None:
        used = {"graph": config["use_graph_id"], "sequence": config["use_seq_id"]}
        tables = [
            unit_variance(stage_outputs[name]["item_embedding"]) for name in used if used[name]
        ]
        super().__init__(config, dataset, torch.cat(tables, dim=1))
        self.prefix: GraphPrefix | None = None
        if config["use_graph_prefix"]:
            graph = stage_outputs["graph"]["item_embedding"].float()
            self.register_buffer("graph_table", graph, persistent=False)
            self.prefix = GraphPrefix(
                self.backbone_shape.n_layers,
                self.backbone_shape.hidden_size,
                graph.size(1),
                config["pool_dim"],
                config["n_prefix"],
                config["prefix_mlp_size"],
                config["prefix_dropout"],
                input_scales(self.llm),
            )

    def build_projection(self, config: Config, width: int, hidden_size: int) -> nn.Module:
        """Build the item MLP, with GELU inside."""
        inner = config["item_mlp_size"] or hidden_size
        return nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, hidden_size))

    def prefix_cache(self, item_seq: Tensor) -> DynamicCache | None:
        """Return the graph prefix of the whole input (eq. 8 to 11); None without one."""
        if self.prefix is None:
            return None
        graph_emb = F.embedding(item_seq, self.graph_table)  # (B, S, d) eq. 8
        return prefix_cache(self.llm, *self.prefix(graph_emb, item_seq > 0))  # eq. 9 to 11

    def window_groups(self, item_seq: Tensor) -> LayerStates | None:
        """Return the graph prefix of the items up to each one; None without one."""
        if self.prefix is None:
            return None
        graph_emb = F.embedding(item_seq, self.graph_table)  # (B, S, d)
        return causal_states(self.llm, self.prefix, graph_emb, item_seq > 0)
