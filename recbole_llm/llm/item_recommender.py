"""The base of decoders that read a user's items as embeddings, between the words of a prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.data.sequence_loader import TARGET_SEQ, sample_loader
from recbole_llm.llm.cache import LayerStates
from recbole_llm.llm.decoder import check_window, last_hidden, sliding_window
from recbole_llm.llm.lora import save_adapter
from recbole_llm.llm.prompt import build_inputs, tokenize_prompt
from recbole_llm.llm.prompt_files import load_prompt
from recbole_llm.llm.recommender import LLM_SETTINGS, FrozenTrunkRecommender
from recbole_llm.llm.score_head import HEADS, build_head, wide
from recbole_llm.llm.skeleton import Skeleton
from recbole_llm.llm.windows import check_windows, read_windows
from recbole_llm.settings.group import Optional, Settings
from recbole_llm.settings.run import OVERALL
from recbole_llm.settings.values import Choice, Int, Text

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import DynamicCache

#: Settings of every ``ItemRecommender``; a subclass adds its own.
ITEM_SETTINGS = (
    LLM_SETTINGS
    | OVERALL.pick("adam_betas")
    | Settings(
        prompt=Text(),
        training=Choice("windows", "prefixes"),
        train_batch_tokens=Optional(Int(1)),
        head=Choice(*HEADS),
        head_init=Optional(Choice("random", "items")),
    )
)


class ItemRecommender(FrozenTrunkRecommender):
    """Frozen item table -> projection -> prompt -> trunk with LoRA -> score head -> cross-entropy.

    A subclass passes the item table to ``__init__``, defines ``build_projection``, declares
    ``settings = ITEM_SETTINGS | Settings(...)``, and adds ``ModelHooks`` behind this class for its
    stages. What else a layer attends to comes from ``prefix_cache`` and ``window_groups``.

    I: items, counting padding id 0. B: batch. S: history length. h: the LLM's hidden size.

    ``training: prefixes`` makes each prefix of a user's sequence a sample, as the papers do.
    ``training: windows`` runs one forward pass a window and trains all its positions: the answer
    after item j is the one that a sample of the items up to j gives, so the loss is the same mean
    to rounding (of windows that are whole sequences: a window's first items see no earlier ones).
    Ranking reads a history in the same way as training does.

    Config keys: those of ``load_llm``, ``prompt`` ``training`` ``train_batch_tokens`` ``head``
    ``head_init`` ``seed``.

    Args:
        config: settings.
        dataset: the training part.
        item_table: (I, width) float32, frozen, of about unit variance; row 0 is padding.
    """

    input_type = InputType.POINTWISE
    train_loader: ClassVar[Callable[..., AbstractDataLoader] | None] = staticmethod(sample_loader)
    needs_history = True
    ranks_histories = True
    item_table: Tensor
    head_ids: Tensor  # (n_head,) int64, words before the items
    tail_ids: Tensor  # (n_tail,) int64, words behind them
    llm: Any  # the frozen trunk in PEFT's wrapper

    @classmethod
    def check_settings(cls, config: Config) -> None:
        """Check that each setting is one that the chosen training and head read.

        Raises:
            ValueError: a setting has no effect together with another one.
        """
        training, head = config["training"], config["head"]
        if training == "windows" and config["prefixes_per_user"]:
            raise ValueError(
                "prefixes_per_user has no effect with training=windows, which trains every item of "
                "a window. Set prefixes_per_user to 0, or training to prefixes."
            )
        if training == "prefixes" and config["train_batch_tokens"]:
            raise ValueError(
                "train_batch_tokens has no effect with training=prefixes, whose batches hold "
                "train_batch_size samples. Leave it out, or set training to windows."
            )
        if head != "full" and config["head_init"]:
            raise ValueError(
                f"head_init has no effect with head={head}: it is for head=full. Leave it out."
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
        """Check that every layer takes LoRA, and that windows fit a sliding window.

        Raises:
            ValueError: a layer that the settings need is missing, or its window is too short.
        """
        super().check_layers(config, skeleton)
        if config["training"] == "windows":
            check_windows(skeleton.model)
            cls.check_length(config, skeleton)

    @classmethod
    def check_length(cls, config: Config, skeleton: Skeleton, n_more: int = 0) -> None:
        """Check that each layer sees the longest prompt, and ``n_more`` entries before it.

        Raises:
            ValueError: a layer's sliding window is too short.
        """
        if sliding_window(skeleton.model) is not None:
            words = tokenize_prompt(load_prompt(config["prompt"]), skeleton.load_tokenizer())
            n_tokens = sum(len(ids) for ids in words) + config["MAX_ITEM_LIST_LENGTH"]
            check_window(skeleton.model, n_more + n_tokens)

    def __init__(self, config: Config, dataset: MultimodalDataset, item_table: Tensor) -> None:
        super().__init__(config, dataset)
        self.ITEM_SEQ = self.ITEM_ID + config["LIST_SUFFIX"]
        self.ITEM_SEQ_LEN = config["ITEM_LIST_LENGTH_FIELD"]
        self.reads_windows = config["training"] == "windows"
        self.register_buffer("item_table", item_table, persistent=False)
        self.llm, self.backbone_shape = self._load(config)
        self.item_projection = self.build_projection(
            config, item_table.size(1), self.backbone_shape.hidden_size
        )
        self._match_scales()
        self.score_head = build_head(
            config["head"],
            item_table,
            self.backbone_shape.hidden_size,
            self._state_norm(),
            config["seed"],
            config["head_init"],
        )

    def _load(self, config: Config) -> Any:
        llm, backbone = self.load_llm(config)
        head, tail = tokenize_prompt(load_prompt(config["prompt"]), backbone.tokenizer)
        self.register_buffer("head_ids", head, persistent=False)
        self.register_buffer("tail_ids", tail, persistent=False)
        return llm, backbone.shape

    def build_projection(self, config: Config, width: int, hidden_size: int) -> nn.Module:
        """Build the map from rows of the item table (.., width) to the trunk's inputs (.., h).

        Its last layer is linear, with a bias: ``self.item_projection[-1]`` of a sequence of
        layers, or the layer itself.
        """
        raise NotImplementedError

    def prefix_cache(self, item_seq: Tensor) -> DynamicCache | None:
        """Return what every token attends to before the prompt, with ``training: prefixes``."""
        return None

    def window_groups(self, item_seq: Tensor) -> LayerStates | None:
        """Return what item j and its answer attend to before the prompt; see ``read_windows``."""
        return None

    @property
    def words(self) -> nn.Embedding:
        """The LLM's token embeddings (frozen)."""
        return self.llm.get_base_model().get_input_embeddings()

    @torch.no_grad()
    def _match_scales(self) -> None:
        """Scale the projection so that an item is, at first, as large as a word of the prompt."""
        projection = self.item_projection
        last: Any = projection[-1] if isinstance(projection, nn.Sequential) else projection
        last.bias.zero_()
        # Evenly spread items show the size; all at once could take more memory than their table.
        items = self.item_table[1:]
        size = projection(items[:: max(1, len(items) // 4096)]).std()
        last.weight.mul_(self.words.weight.float().std() / size)

    @torch.no_grad()
    def _state_norm(self) -> float:
        """Return the length of the state after one item and the prompt alone."""
        items = self.item_projection(self.item_table[None, 1:2])  # (1, 1, h)
        return self._last_state(items, torch.ones(1, dtype=torch.long)).norm().item()

    def _last_state(
        self, items: Tensor, lengths: Tensor, cache: DynamicCache | None = None
    ) -> Tensor:
        """Return the last state (B, h) of whole prompts around items (B, S, h), float32."""
        inputs, mask = build_inputs(self.words, self.head_ids, self.tail_ids, items, lengths)
        return wide(last_hidden(self.llm, inputs, mask, cache))

    # -- reading -------------------------------------------------------------------------------

    def forward(self, item_seq: Tensor, lengths: Tensor) -> Tensor:
        """Return the state (B, h) after each user's last item, float32.

        Args:
            item_seq: (B, S) int64, a user's items, oldest first, zeros behind them.
            lengths: (B,) int64.
        """
        if self.reads_windows:
            return self.states(item_seq, lengths.unsqueeze(1)).squeeze(1)
        items = self.item_projection(F.embedding(item_seq, self.item_table))  # (B, S, h)
        return self._last_state(items, lengths, self.prefix_cache(item_seq))

    def states(self, item_seq: Tensor, ends: Tensor) -> Tensor:
        """Return the states (B, E, h) after the first ``ends`` items of each user, float32.

        Args:
            item_seq: (B, S) int64, a user's items, oldest first, zeros behind them.
            ends: (B, E) or (1, E) int64 in 0..S.
        """
        head, tail = self.words(self.head_ids), self.words(self.tail_ids)
        items = self.item_projection(F.embedding(item_seq, self.item_table)).to(head.dtype)
        groups = self.window_groups(item_seq)
        return wide(read_windows(self.llm, head, items, tail, ends, groups))

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return the mean cross-entropy of the next item over the catalogue."""
        item_seq = interaction[self.ITEM_SEQ]
        if not self.reads_windows:
            states = self(item_seq, interaction[self.ITEM_SEQ_LEN])
            return self.score_head.loss(states, interaction[self.ITEM_ID])
        target = interaction[TARGET_SEQ]  # (B, S)
        ends = torch.arange(1, item_seq.size(1) + 1, device=item_seq.device)
        states, is_real = self.states(item_seq, ends.unsqueeze(0)), target > 0
        return self.score_head.loss(states[is_real], target[is_real])

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Return scores of every item for each user, (B * I,), flat as the evaluator expects."""
        states = self(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return self.score_head(states).flatten()

    @torch.no_grad()
    def user_views(self, interaction: Interaction) -> dict[str, Tensor]:
        """Return the rows of a batch of users whose products with the items' are the scores."""
        states = self(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return {"": self.score_head.user_rows(states)}

    def export(self) -> dict[str, Tensor]:
        """Return the items' rows, which go with ``user_views``."""
        return {"item_embedding": self.score_head.item_rows().detach().cpu()}

    def head_weights(self) -> dict[str, Tensor]:
        """Return the weights of the score head by name."""
        return self.score_head.weights()

    def export_adapter(self, folder: Path) -> Path:
        """Write the LoRA weights as a folder that PEFT reads."""
        save_adapter(self.llm, folder)
        return folder
