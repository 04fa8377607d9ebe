"""GALRec: a language model that reads users, items and their neighbours, taught to aggregate them.

Reference: Z. Guan et al., "Enhancing Collaborative Semantics of Language Model-Driven
Recommendations via Graph-Aware Learning", arXiv:2406.13235 (equation numbers below). A first stage
trains the external embeddings (LightGCN or SASRec).

Where the paper contradicts itself or is silent:

- Eq. 5 and 15 sum over E_v^0, eq. 14 and the text next to it take the negatives E_v^2 from Q_u^2.
  We follow eq. 14: it is what the queue of eq. 16 holds, and what can undo the collapse of 2-hop
  representations that section V-D reports.
- Eq. 8 to 13: the text calls the same symbols by other hops (E_v^2 "first-order", E_u^0
  "second-order"). We read the superscripts: with them eq. 8 and 9 are what their heading says, and
  eq. 12 what its heading says, with eq. 11 the same for the other side.
- Eq. 16 stores f_q's output, the text f_m's. We store f_m's, as MoCo does; without it eq. 17 would
  change nothing. Positives come from f_q (text, eq. 14), with gradients on both sides.
- A queued key of the positive's own node is no negative: the sums are over users and items.
- The paper does not say what a user's embedding is under SASRec and under text. Under text it is
  the mean of the user's training items; under SASRec that, or the state at the last training item
  (``sasrec_user``).
- Table V's other hops: with 1 hop L1 and L2 have no 2-hop prompt and drop out; with 3 hops L2 has
  also the pair one hop further out. Eq. 1's prompt is the user's widest one.
- The item that is to be predicted is not in the user's prompts, so the user is not in the item's.
- Eq. 1 predicts a token of the whole vocabulary, words and users among them. Here the softmax is
  over the items alone, the only tokens that can be right, and padding is not one of them.
- The head is tied: an item's logit is the answer's inner product with the item's own input
  embedding g(h_i), times one trained factor. The paper does not describe a head.
- External tables are scaled to unit variance and the mapping g so that a token starts as large as a
  word. g's inner width is a setting (``mapping_size``); the paper gives none.
- Not the whole LLM is trained but LoRA weights. lambda_4 (eq. 18) is the optimiser's weight decay.
- One sample is one prefix of a user's sequence. Windows (HeLLM's ``training: windows``) do not
  apply: a prompt holds the neighbours of a user and not their sequence.
- The history may be ranked (``mask_history: false``), as in the paper.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.data.sequence_loader import PrefixLoader
from recbole_llm.graph.neighbours import NeighbourTable, edge_priority, name_checksums
from recbole_llm.llm.lora import save_adapter
from recbole_llm.llm.prompt_files import find_prompt
from recbole_llm.llm.recommender import LLM_SETTINGS, FrozenTrunkRecommender
from recbole_llm.model.base import ModelHooks
from recbole_llm.model.galrec.contrast import KeyQueue, MomentumWeights
from recbole_llm.model.galrec.external import external_tables
from recbole_llm.model.galrec.hop_prompt import MAX_HOPS, assemble, load_hop_prompts
from recbole_llm.model.galrec.pairs import PAIRS, View
from recbole_llm.model.galrec.reader import NodeReader
from recbole_llm.model.stage import EXTERNAL_STAGES
from recbole_llm.processes import WHOLE, Share, gathered_rows
from recbole_llm.registry import StageSpec
from recbole_llm.settings.group import MapOf, Optional, Settings
from recbole_llm.settings.run import OVERALL
from recbole_llm.settings.values import Bool, Choice, Float, Int, Text

Prompt = tuple[Tensor, Tensor]  # ids and mask, (B, T) int64 each


class GALRec(FrozenTrunkRecommender, ModelHooks):
    """U, I: users, items, each counting padding id 0. B: batch. S: history length. h: LLM's width.

    Config keys: ``external_embedding`` ``sasrec_user`` ``text_modality`` ``mapping_size``, those of
    ``load_llm``, ``prompts``, ``n_hops`` ``n_first_order`` ``n_second_order`` ``n_third_order``,
    ``use_gal`` ``use_l1`` ``use_l2`` ``use_l3`` ``l1_weight`` ``l2_weight`` ``l3_weight``
    ``temperature`` ``queue_size`` ``momentum`` ``gal_rows``, ``gradient_accumulation_steps``.

    Args:
        config: settings.
        dataset: the training part.
        stage_outputs: "external" with ``item_embedding`` (I, d) and perhaps ``user_embedding``
            (U, d); empty for text.
    """

    settings = (
        LLM_SETTINGS
        | OVERALL.pick("gradient_accumulation_steps", "mask_history", "metrics", "topk")
        | Settings(
            external_embedding=Choice(*EXTERNAL_STAGES, "text"),
            external_stage=MapOf(),
            sasrec_user=Choice("mean", "last"),
            text_modality=Text(),
            mapping_size=Optional(Int(1)),
            prompts=Text(),
            n_hops=Int(1, MAX_HOPS),
            n_first_order=Int(1),
            n_second_order=Int(1),
            n_third_order=Int(1),
            use_gal=Bool(),
            use_l1=Bool(),
            use_l2=Bool(),
            use_l3=Bool(),
            l1_weight=Float(0),
            l2_weight=Float(0),
            l3_weight=Float(0),
            temperature=Float(above=0),
            queue_size=Int(1),
            momentum=Float(0, 1),
            gal_rows=Optional(Int(1)),
        )
    )

    input_type = InputType.POINTWISE
    train_loader = PrefixLoader
    needs_history = True
    takes_encoder_decoder = True
    saved_buffers = ("momentum_weights.", "queues.")

    @classmethod
    def required_stages(cls, config: Config) -> dict[str, StageSpec]:
        """Return the stage that trains the external embeddings; none for text."""
        chosen = config["external_embedding"]
        return {"external": EXTERNAL_STAGES[chosen]} if chosen in EXTERNAL_STAGES else {}

    @classmethod
    def check_settings(cls, config: Config) -> None:
        """Check that the data set names the modality that the external embeddings are made of.

        Raises:
            ValueError: it does not.
        """
        name, names = config["text_modality"], list(config["modalities"] or {})
        if config["external_embedding"] == "text" and name not in names:
            raise ValueError(
                f"text_modality: dataset {config['dataset']!r} has no modality {name!r}, it has: "
                f"{', '.join(names) or 'none'}. external_embedding=text needs one."
            )

    @classmethod
    def check_available(cls, config: Config) -> None:
        """Look up the language model and the prompts before any stage is trained.

        Raises:
            ValueError, OSError, ImportError: one of them is missing; the text says what to do.
        """
        find_prompt(config["prompts"], ".yaml")
        super().check_available(config)

    def __init__(
        self,
        config: Config,
        dataset: MultimodalDataset,
        stage_outputs: Mapping[str, dict[str, Tensor]] = MappingProxyType({}),
    ) -> None:
        super().__init__(config, dataset)
        self.ITEM_SEQ = self.ITEM_ID + config["LIST_SUFFIX"]
        self.n_hops = config["n_hops"]
        names = ("n_first_order", "n_second_order", "n_third_order")
        self.n_drawn = [0, *(config[name] for name in names)]
        self._add_graph(dataset)
        user_table, item_table = external_tables(config, dataset, stage_outputs)

        llm, backbone = self.load_llm(config)
        self.reader = NodeReader(llm, user_table, item_table, config["mapping_size"])
        add_eos = self.reader.is_encoder_decoder
        self.templates = load_hop_prompts(config["prompts"], backbone.tokenizer, add_eos)
        # One factor for all scores, so that they start moderate whatever the size of the states.
        # Its logarithm: at a small run's rates the factor itself could be stepped below zero.
        self.score_log_scale = nn.Parameter(torch.zeros(1))
        self._match_scores()
        self._add_contrast(config)

    def _add_graph(self, dataset: MultimodalDataset) -> None:
        """Keep the neighbours of users and of items, over the training interactions alone."""
        edges = dataset.inter_matrix(form="coo")
        user_key, item_key = (
            name_checksums(dataset.field2id_token[field]) for field in (self.USER_ID, self.ITEM_ID)
        )
        priority = edge_priority(user_key[edges.row], item_key[edges.col])
        self.items_of, self.users_of = NeighbourTable.both(
            edges.row, edges.col, priority, self.n_users, self.n_items
        )

    def _add_contrast(self, config: Config) -> None:
        self.temperature, self.gal_rows = config["temperature"], config["gal_rows"]
        self.loss_weights = {name: config[f"{name}_weight"] for name in ("l1", "l2", "l3")}
        used = {name for name in self.loss_weights if config[f"use_{name}"] and config["use_gal"]}
        self.pairs = [pair for pair in PAIRS if pair.loss in used and pair.n_hops <= self.n_hops]
        self.key_views = list(dict.fromkeys(pair.key for pair in self.pairs))
        size, width = config["queue_size"], self.reader.hidden_size
        self.queues = nn.ModuleDict(
            {f"{side}_{hop}": KeyQueue(size, width) for side, hop in self.key_views}
        )
        self.momentum_weights: MomentumWeights | None = None
        if self.pairs:
            self.momentum_weights = MomentumWeights(self.reader, config["momentum"])
        # Of the last loss: keys by view, and the nodes of both sides that they stand for.
        self.new_keys: tuple[dict[View, Tensor], dict[str, Tensor]] | None = None

    @torch.no_grad()
    def _match_scores(self) -> None:
        """Scale the scores of one user's bare prompt to unit variance over the items."""
        user = self.reader.user_tokens(torch.ones(1, 1, dtype=torch.long))
        prompt = assemble(self.templates["user", 0], [user])
        scores = self._scores(self.reader.read(*prompt).answer)[:, 1:]
        self.score_log_scale.sub_(scores.std().log())

    # -- prompts -------------------------------------------------------------------------------

    def hops(self, side: str, node: Tensor, first: Tensor) -> list[Tensor]:
        """Return the token ids (B, n_k) of a node's neighbours at each hop 0..n_hops, -1 for none.

        Further hops are drawn from the training graph, in training at random, else always the
        same. A walk does not go straight back to the node that it came from.

        Args:
            side: "user" or "item".
            node: (B,) int64.
            first: (B, n) int64, the neighbours at hop 1; 0 for none.
        """
        levels = [node, first]  # (B,), (B, n), (B, n, n_2 + 1), (B, n, n_2 + 1, n_3 + 1)
        for hop in range(2, self.n_hops + 1):
            table = self.users_of if (side == "user") == (hop % 2 == 0) else self.items_of
            before = levels[-2].unsqueeze(-1)
            levels.append(
                table.draw(levels[-1], self.n_drawn[hop], exclude=before, random=self.training)
            )
        tokens = (self.reader.user_tokens, self.reader.item_tokens)
        start = 0 if side == "user" else 1
        return [
            tokens[(start + hop) % 2](level.reshape(len(node), -1))
            for hop, level in enumerate(levels)
        ]

    def prompts(self, side: str, interaction: Interaction) -> dict[View, Prompt]:
        """Return the prompts of hop 0..n_hops of each row's user, or of each row's target item."""
        user = interaction[self.USER_ID]
        if side == "user":
            hops = self.hops("user", user, interaction[self.ITEM_SEQ])
        else:
            item = interaction[self.ITEM_ID]
            first = self.users_of.draw(item, self.n_drawn[1], exclude=user, random=self.training)
            hops = self.hops("item", item, first)
        return {
            (side, hop): assemble(self.templates[side, hop], hops) for hop in range(self.n_hops + 1)
        }

    # -- losses --------------------------------------------------------------------------------

    def _scores(self, answer: Tensor) -> Tensor:
        """Return the logits (B, I) of the item tokens, float32."""
        return self.score_log_scale.exp() * (answer @ self.reader.item_emb().T)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return L0 plus the weighted contrastive losses (eq. 18).

        The queues take up this batch's keys in ``after_backward``, so that a loss which is only
        looked at changes nothing.
        """
        return self.loss_share(interaction, WHOLE)

    def loss_share(self, batch: Interaction, share: Share) -> Tensor:
        """Return a process's share of the loss: its rows, and as many of ``gal_rows`` of them."""
        self.new_keys = None
        n_rows, n_gal = len(batch), min(self.gal_rows or len(batch), len(batch))
        own = batch[share.rows(n_rows)]
        prompts = self.prompts("user", own)
        widest = ("user", self.n_hops)
        reading = self.reader.read(*prompts[widest])
        logits = self._scores(reading.answer)[:, 1:]  # (B, I - 1): the padding item is no class
        loss = F.cross_entropy(logits, own[self.ITEM_ID] - 1) * (len(own) / n_rows)  # eq. 1
        # Drawn, as the rows of a batch come in the order of their history's length.
        n_own = len(range(n_gal)[share.rows(n_gal)])
        if not self.pairs or not n_own:
            return loss
        rows = torch.randperm(len(logits), device=logits.device)[:n_own]
        views = {view: (ids[rows], mask[rows]) for view, (ids, mask) in prompts.items()}
        own = own[rows]
        views |= self.prompts("item", own)
        graph_loss = self._graph_loss(own, views, {widest: reading.meaning[rows]})
        return loss + graph_loss * (n_own / n_gal)

    def _graph_loss(
        self, interaction: Interaction, views: dict[View, Prompt], meaning: dict[View, Tensor]
    ) -> Tensor:
        """Return the weighted sum of the contrastive losses in use (eq. 5 to 17).

        Args:
            interaction: R rows with user and target item.
            views: the rows' prompts.
            meaning: (R, h) of the views that were read already; the others are read here.
        """
        assert self.momentum_weights is not None  # there are pairs
        nodes = {"user": interaction[self.USER_ID], "item": interaction[self.ITEM_ID]}
        total = torch.zeros((), device=nodes["user"].device)
        for pair in self.pairs:
            for view in (pair.anchor, pair.key):
                if view not in meaning:
                    meaning[view] = self.reader(*views[view])  # f_q of eq. 14
            queue, (side, _) = self._queue(pair.key), pair.key
            anchor, positive = meaning[pair.anchor], meaning[pair.key]
            term = queue.contrast(anchor, positive, nodes[side], self.temperature)
            total = total + self.loss_weights[pair.loss] * term
        if torch.is_grad_enabled():
            keys = {v: self.momentum_weights.call(self.reader, *views[v]) for v in self.key_views}
            self.new_keys = keys, nodes
        return total

    def _queue(self, view: View) -> KeyQueue:
        queue = self.queues["_".join(map(str, view))]
        assert isinstance(queue, KeyQueue)
        return queue

    def after_backward(self) -> None:
        """Put the batch's keys into the queues (eq. 16), those of all processes in all of them."""
        keys, nodes = self.new_keys or ({}, {})
        no_node = torch.zeros(0, dtype=torch.long, device=self.score_log_scale.device)
        no_key = torch.zeros(0, self.reader.hidden_size, device=no_node.device)
        for view in self.key_views:
            key = gathered_rows(keys.get(view, no_key).float())
            self._queue(view).push(key, gathered_rows(nodes.get(view[0], no_node)))
        self.new_keys = None

    def after_step(self) -> None:
        """Let the momentum weights follow one step of the optimizer (eq. 17)."""
        if self.momentum_weights is not None:
            self.momentum_weights.update(self.reader)

    # -- scores and files ----------------------------------------------------------------------

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Return scores of every item for each user, (B * I,), flat as the evaluator expects."""
        prompt = self.prompts("user", interaction)["user", self.n_hops]
        return self._scores(self.reader.read(*prompt).answer).flatten()

    @torch.no_grad()
    def user_views(self, interaction: Interaction) -> dict[str, Tensor]:
        """Return users' representations (B, h) by hop, as in the paper's Fig. 4."""
        prompts = self.prompts("user", interaction)
        return {f"{hop}-hop": self.reader(*prompt) for (_, hop), prompt in prompts.items()}

    def export_adapter(self, folder: Path) -> Path:
        """Write the LoRA weights as a folder that PEFT reads."""
        save_adapter(self.reader.llm, folder)
        return folder
