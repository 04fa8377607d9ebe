"""SASRecCausal: SASRec trained with one forward a user window and a loss at every position.

Reference: W. Kang and J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018,
arXiv:1808.09781, whose own training is of this form; RecBole's SASRec makes each prefix a sample.
Departs from the paper: cross-entropy over the catalogue (as RecBole's default) in place of binary
cross-entropy with one negative; a position at the head of a window sees the window only.
"""

import torch
from recbole.data.dataset.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender.sasrec import SASRec
from recbole.utils import InputType, ModelType
from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.history import UserHistory
from recbole_llm.data.sequence_loader import TARGET_SEQ, WindowLoader
from recbole_llm.model.base import ModelHooks
from recbole_llm.model.loss import full_softmax_loss
from recbole_llm.model.stage import exported_weights
from recbole_llm.settings.group import Optional, Settings
from recbole_llm.settings.run import TRAINING
from recbole_llm.settings.values import Choice, Float, Int


class SASRecCausal(SASRec, ModelHooks):
    """RecBole's SASRec with another training loop; B: windows, L: length, d: width, I: items.

    Config keys: those of RecBole's SASRec (``loss_type`` is CE), ``MAX_ITEM_LIST_LENGTH`` (L)
    ``train_batch_tokens``.
    """

    settings = TRAINING | Settings(
        n_layers=Int(1),
        n_heads=Int(1),
        hidden_size=Int(1),
        inner_size=Int(1),
        hidden_dropout_prob=Float(0, below=1),
        attn_dropout_prob=Float(0, below=1),
        hidden_act=Choice("gelu", "relu", "swish", "tanh", "sigmoid"),
        layer_norm_eps=Float(above=0),
        initializer_range=Float(above=0),
        loss_type=Choice("CE"),
        MAX_ITEM_LIST_LENGTH=Int(1),
        train_batch_tokens=Optional(Int(1)),
    )

    # A general model to RecBole: users are rows of the split, and no sample is made per prefix.
    type = ModelType.GENERAL
    input_type = InputType.POINTWISE
    train_loader = WindowLoader
    needs_history = True
    ranks_histories = True

    @classmethod
    def check_settings(cls, config: Config) -> None:
        """Check that the heads share the hidden width.

        Raises:
            ValueError: ``hidden_size`` is not divisible by ``n_heads``.
        """
        dim, n_heads = config["hidden_size"], config["n_heads"]
        if dim % n_heads:
            raise ValueError(f"hidden_size must be divisible by n_heads, got {dim} and {n_heads}.")

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        self.history = UserHistory.of([dataset])

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Return the hidden state (B, d) at the last item of each sequence (B, L)."""
        # clamp: a user without training items is read as one padding item
        return super().forward(item_seq, item_seq_len.clamp(min=1))

    def states(self, item_seq: Tensor) -> Tensor:
        """Return the hidden state (B, L, d) at every position, each seeing its past only."""
        position = self.position_embedding.weight[: item_seq.size(1)]  # (L, d)
        hidden = self.dropout(self.LayerNorm(self.item_embedding(item_seq) + position))
        mask = self.get_attention_mask(item_seq)
        return self.trm_encoder(hidden, mask, output_all_encoded_layers=False)[-1]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return the mean cross-entropy of the next item over every position that has one."""
        target = interaction[TARGET_SEQ]  # (B, L)
        real = target > 0
        states = self.states(interaction[self.ITEM_SEQ])[real]  # (positions, d)
        return full_softmax_loss(states, self.item_embedding.weight, target[real])

    @torch.no_grad()
    def user_views(self, interaction: Interaction) -> dict[str, Tensor]:
        """Return the hidden state (B, d) at each user's last item, the one way to read them."""
        return {"": self(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])}

    @torch.no_grad()
    def user_states(self) -> Tensor:
        """Return the state (U, d) at each user's last training item; zeros for one without items.

        It is called in evaluation mode.
        """
        weight, parts = self.item_embedding.weight, []
        for users in torch.arange(len(self.history.indptr) - 1).split(1024):
            items, length = self.history.last(users, self.max_seq_length)
            items, length = items.to(weight.device), length.to(weight.device)
            parts.append(self(items, length) * (length > 0).unsqueeze(1))
        return torch.cat(parts)

    def export(self) -> dict[str, Tensor]:
        """Return what a later stage takes over: embeddings, or the whole model as it is."""
        return {
            "item_embedding": self.item_embedding.weight.detach().cpu(),
            "user_embedding": self.user_states().cpu(),
            **exported_weights(self),
        }
