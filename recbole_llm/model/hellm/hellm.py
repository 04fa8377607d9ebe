"""HeLLM: a language model that reads a user's items as embeddings, with a graph prefix.

Reference: X. Guo et al., "HeLLM: Multi-Modal Hypergraph Enhanced LLM Learning for Recommendation",
arXiv:2504.10541 (equation numbers below). Stages 1 and 2 (HeLLMPretrain, SASRecCausal) are trained
first; this is stage 3. Where the paper is silent (prompt, MLPs, LoRA targets) the authors' code
decides. Departs from it: both frozen tables are scaled to unit variance before the MLP, so that
neither drowns the other; ``head_init: items`` starts the score head at the items' own frozen
embeddings (``random`` is the authors').
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.data.loader import PrefixLoader
from recbole_llm.llm.decoder import check_window, last_hidden, sliding_window
from recbole_llm.llm.lora import save_adapter
from recbole_llm.llm.prompt_files import load_prompt
from recbole_llm.llm.recommender import LLM_SETTINGS, FrozenTrunkRecommender, unit_variance
from recbole_llm.llm.skeleton import Skeleton
from recbole_llm.model.base import ModelHooks
from recbole_llm.model.hellm.prefix import (
    GraphPrefix,
    check_prefix,
    input_scales,
    prefix_cache,
)
from recbole_llm.model.hellm.prompt import build_inputs, tokenize_prompt
from recbole_llm.registry import StageSpec
from recbole_llm.settings.group import MapOf, Optional, Settings
from recbole_llm.settings.run import OVERALL
from recbole_llm.settings.values import Bool, Choice, Float, Int, Text

_GRAPH = StageSpec("HeLLMPretrain", keys=("use_u2u", "use_i2i", "use_cl"))
_SEQUENCE = StageSpec("SASRecCausal")


class HeLLM(FrozenTrunkRecommender, ModelHooks):
    """I: items, counting padding id 0. B: batch. S: history length. h: the LLM's hidden size.

    Config keys: those of ``load_llm``, ``prompt``, ``item_mlp_size`` ``head_init``, ``n_prefix``
    ``pool_dim`` ``prefix_mlp_size`` ``prefix_dropout``, and the switches ``use_graph_prefix``
    ``use_graph_id`` ``use_seq_id`` (Table IV; ``use_u2u`` ``use_i2i`` ``use_cl`` go to stage 1).

    Args:
        config: settings.
        dataset: the training part.
        stage_outputs: "graph" and "sequence", each with ``item_embedding`` (I, d).
    """

    settings = (
        LLM_SETTINGS
        | OVERALL.pick("adam_betas")
        | Settings(
            graph_stage=MapOf(),
            sequence_stage=MapOf(),
            use_u2u=Bool(),
            use_i2i=Bool(),
            use_cl=Bool(),
            prompt=Text(),
            use_graph_id=Bool(),
            use_seq_id=Bool(),
            use_graph_prefix=Bool(),
            item_mlp_size=Optional(Int(1)),
            n_prefix=Int(1),
            pool_dim=Int(1),
            prefix_mlp_size=Int(1),
            prefix_dropout=Float(0, below=1),
            head_init=Choice("random", "items"),
        )
    )

    input_type = InputType.POINTWISE
    train_loader = PrefixLoader
    needs_history = True
    ranks_histories = True
    item_table: Tensor  # (I, width) frozen [graph ; sequence] embeddings of unit variance
    graph_table: Tensor  # (I, d) frozen E^Graph
    llm: Any  # the frozen trunk in PEFT's wrapper
    item_mlp: Any

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
            ValueError: no embedding is left for the items, or ``pool_dim`` is too large.
        """
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
    def check_available(cls, config: Config) -> None:
        """Look up the prompt and the language model before any stage is trained.

        Raises:
            ValueError, OSError, ImportError: one of them is missing, or does not do; the text says
                what to do.
        """
        load_prompt(config["prompt"])
        super().check_available(config)

    @classmethod
    def check_layers(cls, config: Config, skeleton: Skeleton) -> None:
        """Check that every layer takes a graph prefix, and sees it over the longest prompt.

        Raises:
            ValueError: a layer that the settings need is missing, or its window is too short.
        """
        super().check_layers(config, skeleton)
        if not config["use_graph_prefix"]:
            return
        check_prefix(skeleton.model, config["n_prefix"])
        if sliding_window(skeleton.model) is not None:
            words = tokenize_prompt(load_prompt(config["prompt"]), skeleton.load_tokenizer())
            n_tokens = sum(len(ids) for ids in words) + config["MAX_ITEM_LIST_LENGTH"]
            check_window(skeleton.model, config["n_prefix"] + n_tokens)

    def __init__(
        self,
        config: Config,
        dataset: MultimodalDataset,
        stage_outputs: Mapping[str, dict[str, Tensor]],
    ) -> None:
        super().__init__(config, dataset)
        self.ITEM_SEQ = self.ITEM_ID + config["LIST_SUFFIX"]
        self.ITEM_SEQ_LEN = config["ITEM_LIST_LENGTH_FIELD"]
        used = {"graph": config["use_graph_id"], "sequence": config["use_seq_id"]}
        tables = [
            unit_variance(stage_outputs[name]["item_embedding"]) for name in used if used[name]
        ]
        self.register_buffer("item_table", torch.cat(tables, dim=1), persistent=False)

        self.llm, backbone = self.load_llm(config)
        head, tail = tokenize_prompt(load_prompt(config["prompt"]), backbone.tokenizer)
        self.register_buffer("head_ids", head, persistent=False)
        self.register_buffer("tail_ids", tail, persistent=False)

        hidden = backbone.shape.hidden_size
        inner = config["item_mlp_size"] or hidden
        self.item_mlp = nn.Sequential(
            nn.Linear(self.item_table.size(1), inner), nn.GELU(), nn.Linear(inner, hidden)
        )
        self.prefix: GraphPrefix | None = None
        if config["use_graph_prefix"]:
            graph = stage_outputs["graph"]["item_embedding"].float()
            self.register_buffer("graph_table", graph, persistent=False)
            self.prefix = GraphPrefix(
                backbone.shape.n_layers,
                hidden,
                graph.size(1),
                config["pool_dim"],
                config["n_prefix"],
                config["prefix_mlp_size"],
                config["prefix_dropout"],
                input_scales(self.llm),
            )
        self.score_head = nn.Linear(hidden, self.n_items, bias=False)
        self._match_scales()
        if config["head_init"] == "items":
            self._start_head_at_items()

    @property
    def words(self) -> nn.Embedding:
        """The LLM's token embeddings (frozen)."""
        return self.llm.get_base_model().get_input_embeddings()

    @torch.no_grad()
    def _match_scales(self) -> None:
        """Scale the item MLP so that an item is, at first, as large as a word of the prompt."""
        words = self.words.weight.float().std()
        self.item_mlp[-1].bias.zero_()
        items = self.item_mlp(self.item_table[1:]).std()
        self.item_mlp[-1].weight.mul_(words / items)

    @torch.no_grad()
    def _start_head_at_items(self) -> None:
        """Set the score head to a random rotation of the item table: like items score alike.

        Rows are as long as makes the first scores cosines, whatever the size of the LLM's states.
        """
        rotation = torch.empty(self.item_table.size(1), self.score_head.in_features)
        rows = F.normalize(self.item_table @ nn.init.orthogonal_(rotation), dim=-1)  # (I, h)
        probe = torch.ones(1, 1, dtype=torch.long)
        self.score_head.weight.copy_(rows / self(probe, probe[0]).norm())

    def forward(self, item_seq: Tensor, lengths: Tensor) -> Tensor:
        """Return the LLM's last hidden state (B, h), float32.

        Args:
            item_seq: (B, S) int64, a user's items, oldest first, zeros behind them.
            lengths: (B,) int64.
        """
        item_emb = self.item_mlp(F.embedding(item_seq, self.item_table))  # (B, S, h)
        inputs, mask = build_inputs(self.words, self.head_ids, self.tail_ids, item_emb, lengths)
        cache = None
        if self.prefix is not None:
            graph_emb = F.embedding(item_seq, self.graph_table)  # (B, S, d) eq. 8
            cache = prefix_cache(self.llm, *self.prefix(graph_emb, item_seq > 0))  # eq. 9 to 11
        return last_hidden(self.llm, inputs, mask, cache).float()

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return the mean cross-entropy of the next item over the catalogue (eq. 14)."""
        hidden = self(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        logits = self.score_head(hidden)[:, 1:]  # (B, I - 1): the padding item is no class
        return F.cross_entropy(logits, interaction[self.ITEM_ID] - 1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Return scores of every item for each user, (B * I,), flat as the evaluator expects."""
        hidden = self(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return self.score_head(hidden).flatten()

    def export_adapter(self, folder: Path) -> Path:
        """Write the LoRA weights as a folder that PEFT reads."""
        save_adapter(self.llm, folder)
        return folder
