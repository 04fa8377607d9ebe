"""A language model whose vocabulary is its own words, then users, then items."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_llm.llm.decoder import last_hidden


class Reading(NamedTuple):
    """What a language model makes of a batch of prompts.

    Attributes:
        meaning: (B, h) float32, of the prompt as a whole: the last token's state, or the mean of an
            encoder's states.
        answer: (B, h) float32, the state that the next token is predicted from; a decoder's is its
            ``meaning``.
    """

    meaning: Tensor
    answer: Tensor


class NodeReader(nn.Module):
    """Words come from the language model's own frozen table, users and items from a mapping MLP.

    The MLP maps frozen external embeddings to the width of a word, so a new token costs a row of
    its external table and no trained weight. V: words. U, I: users, items, padding id 0 included.
    Token ids: words 0..V - 1, user u is V + u, item i is V + U + i.

    Args:
        llm: trunk, plain or with adapters; a decoder or an encoder-decoder.
        user_table: (U, d) float32, frozen, row 0 padding.
        item_table: (I, d) float32, likewise.
        mapping_size: inner width of the MLP; None stands for the hidden size.
    """

    user_table: Tensor
    item_table: Tensor
    llm: Any

    def __init__(
        self, llm: nn.Module, user_table: Tensor, item_table: Tensor, mapping_size: int | None
    ) -> None:
        super().__init__()
        self.llm = llm
        self.register_buffer("user_table", user_table, persistent=False)
        self.register_buffer("item_table", item_table, persistent=False)
        # An encoder-decoder's table may have more rows than its tokenizer has words.
        self.n_words, self.hidden_size = self.words.weight.shape
        inner = mapping_size or self.hidden_size
        self.mapping = nn.Sequential(
            nn.Linear(user_table.size(1), inner), nn.GELU(), nn.Linear(inner, self.hidden_size)
        )
        self._match_scales()

    @property
    def words(self) -> nn.Embedding:
        """The language model's token embeddings (frozen)."""
        return self._trunk.get_input_embeddings()

    @property
    def _trunk(self) -> Any:
        return self.llm.get_base_model() if hasattr(self.llm, "get_base_model") else self.llm

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the language model encodes a prompt before it answers (T5)."""
        return bool(self._trunk.config.is_encoder_decoder)

    @torch.no_grad()
    def _match_scales(self) -> None:
        """Scale the MLP so that a user or an item is, at first, as large as a word."""
        last: Any = self.mapping[-1]
        last.bias.zero_()
        nodes = torch.cat([self.user_table[1:], self.item_table[1:]])
        # Evenly spread nodes show the size; mapping all would take more memory than their tables.
        mapped = self.mapping(nodes[:: max(1, len(nodes) // 4096)])
        last.weight.mul_(self.words.weight.float().std() / mapped.std())

    def user_tokens(self, users: Tensor) -> Tensor:
        """Return the token ids of users, -1 for padding."""
        return torch.where(users > 0, users + self.n_words, -1)

    def item_tokens(self, items: Tensor) -> Tensor:
        """Return the token ids of items, -1 for padding."""
        return torch.where(items > 0, items + self.n_words + len(self.user_table), -1)

    def item_emb(self) -> Tensor:
        """Return every item's token embedding (I, h), float32; row 0 is padding."""
        return self.mapping(self.item_table).float()

    def embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings (B, T, h) of token ids (B, T), in the words' type."""
        words = self.words(ids.clamp(max=self.n_words - 1))  # (B, T, h)
        is_node = ids >= self.n_words
        nodes, position = (ids[is_node] - self.n_words).unique(return_inverse=True)
        if not len(nodes):
            return words
        n_users = len(self.user_table)
        users = self.user_table[nodes.clamp(max=n_users - 1)]
        items = self.item_table[(nodes - n_users).clamp(min=0)]
        mapped = self.mapping(torch.where((nodes < n_users).unsqueeze(1), users, items))
        # Each distinct node is mapped once, however often it occurs in the batch.
        return words.masked_scatter(
            is_node.unsqueeze(-1), F.embedding(position, mapped.to(words.dtype))
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the meaning (B, h) of left-padded prompts (B, T), float32."""
        inputs = self.embed(ids)
        if not self.is_encoder_decoder:
            return last_hidden(self.llm, inputs, mask).float()
        encoder = self._trunk.get_encoder()
        states = encoder(inputs_embeds=inputs, attention_mask=mask).last_hidden_state
        return _mean(states, mask)

    def read(self, ids: Tensor, mask: Tensor) -> Reading:
        """Return meaning and answer of left-padded prompts (B, T)."""
        if not self.is_encoder_decoder:
            meaning = self(ids, mask)
            return Reading(meaning, meaning)
        start = self._trunk.config.decoder_start_token_id
        output = self.llm(
            inputs_embeds=self.embed(ids),
            attention_mask=mask,
            decoder_input_ids=ids.new_full((len(ids), 1), start),
            use_cache=False,
        )
        meaning = _mean(output.encoder_last_hidden_state, mask)
        return Reading(meaning, output.last_hidden_state[:, -1].float())


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean (B, h) of the states (B, T, h) at real tokens, float32."""
    weight = mask.unsqueeze(-1).float()
    return (states.float() * weight).sum(dim=1) / weight.sum(dim=1)
