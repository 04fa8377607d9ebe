"""LlamaRec: a retriever's best items, re-ranked by a language model that answers with a letter.

Reference: Z. Yue et al., "LlamaRec: Two-Stage Recommendation using Large Language Models for
Ranking", PGAI at CIKM 2023, arXiv:2311.02089. A first stage trains the retriever. The prompt holds
the titles of the user's recent items and of the retriever's C best items, each behind a letter; the
logits of the letters after one forward pass rank the C. All other items keep the retriever's
scores, below the C, so recall@C is the retriever's. Each sample is a prompt of its own: candidates
are more than half of its tokens, so targets that share a history would save less than a third.

Departs from the paper or from its authors' code (Yueeeeeeee/LlamaRec, commit 48b288b):

- The retriever is SASRec with a loss at every position, theirs LRURec.
- ``train_candidates: retrieved`` trains on the retriever's C best items for a prefix of a training
  sequence, and only where the next item is among them. The retriever was trained on the same
  interactions and finds more of these than of new ones; the letters say nothing of its ranks. The
  authors train on the next item and 19 random ones (``random``), which are easier to tell apart
  than what the ranking offers.
- Candidates are in random order in training and in ranking, where a user's order is always the
  same. The authors' code leaves the retriever's order in validation and test, which the letters
  then give away.
- Every user is re-ranked. The authors re-rank the users whose next item is among the C, and add the
  retriever's metrics of the others: the same numbers, as an order of C items without the next one
  has no hit.
- The loss is the cross-entropy over the C letters. The authors' is over all tokens of the language
  model, at the letter and at the end-of-text token behind it.
- The wording of the prompt is ours. History lines have no numbers. A letter is on a line of its own
  before the title, and the answer on a line of its own, so that both are the same token.
- Validation is once an epoch, not every 100 steps.
- Items that a user has are no candidates if ``mask_history`` hides them. Of validation items, which
  are known when testing, these are the ones among the last MAX_ITEM_LIST_LENGTH.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.llm.decoder import last_hidden
from recbole_llm.llm.lora import save_adapter
from recbole_llm.llm.model_files import lacks_head
from recbole_llm.llm.recommender import LLM_SETTINGS, FrozenTrunkRecommender
from recbole_llm.llm.skeleton import Skeleton
from recbole_llm.model.base import ModelHooks
from recbole_llm.model.llamarec.candidates import (
    N_BEFORE,
    Candidates,
    CountedPrefixLoader,
    lifted,
    shuffled,
)
from recbole_llm.model.llamarec.prompt import TitlePrompt, letter_ids, load_template
from recbole_llm.model.llamarec.titles import read_titles, title_columns
from recbole_llm.model.stage import frozen_stage
from recbole_llm.processes import WHOLE, Share
from recbole_llm.registry import StageSpec
from recbole_llm.settings.group import ListOf, MapOf, Optional, Settings
from recbole_llm.settings.run import OVERALL
from recbole_llm.settings.values import Choice, Int, Text


class LlamaRec(FrozenTrunkRecommender, ModelHooks):
    """I: items, counting padding id 0. B: batch. S: history length. C: candidates.

    Config keys: those of ``load_llm``, ``prompt`` ``item_text``, ``n_candidates`` ``n_history``
    ``max_title_tokens`` ``train_candidates``, ``mask_history``.

    Args:
        config: settings.
        dataset: the training part.
        stage_outputs: "retriever" with the weights of SASRecCausal.

    Raises:
        ValueError: the dataset has fewer than ``n_candidates`` items.
    """

    settings = (
        LLM_SETTINGS
        | OVERALL.pick("valid_metric")
        | Settings(
            retriever_stage=MapOf(),
            item_text=Optional(ListOf(Text())),
            prompt=Text(),
            n_candidates=Int(2, 26),
            n_history=Int(1),
            max_title_tokens=Int(1),
            train_candidates=Choice("retrieved", "random"),
        )
    )

    input_type = InputType.POINTWISE
    train_loader = CountedPrefixLoader
    needs_history = True
    draws_by_row = False  # the order of candidates is drawn for the whole batch
    needs_head = True
    letter_rows: Tensor  # (C, h) float32, rows of the language-model head
    llm: Any  # the frozen trunk in PEFT's wrapper

    @classmethod
    def required_stages(cls, config: Config) -> dict[str, StageSpec]:
        """Return the retriever, which reads as long a history as this model is given."""
        return {"retriever": StageSpec("SASRecCausal", keys=("MAX_ITEM_LIST_LENGTH",))}

    @classmethod
    def check_settings(cls, config: Config) -> None:
        """Check that the retriever is not told to read another length of history.

        Raises:
            ValueError: it is.
        """
        own, length = (
            each["MAX_ITEM_LIST_LENGTH"] for each in (config.stages["retriever"], config)
        )
        if own != length:
            raise ValueError(
                f"retriever_stage.MAX_ITEM_LIST_LENGTH={own} differs from MAX_ITEM_LIST_LENGTH="
                f"{length}, which the retriever is given. Leave it out; n_history is the number of "
                f"items in the prompt."
            )

    @classmethod
    def check_available(cls, config: Config) -> None:
        """Look up titles, prompt and language model before the retriever is trained.

        Raises:
            ValueError, OSError, ImportError: one of them is missing, or does not do; the text says
                what to do.
        """
        title_columns(config)
        load_template(config["prompt"])
        super().check_available(config)

    @classmethod
    def check_layers(cls, config: Config, skeleton: Skeleton) -> None:
        """Check the letters, the longest prompt, and that the files have the head's weights.

        Raises:
            ValueError: the language model does not do; the text says why.
        """
        super().check_layers(config, skeleton)
        template, tokenizer = load_template(config["prompt"]), skeleton.load_tokenizer()
        letter_ids(template[2], tokenizer, config["n_candidates"])
        prompt = TitlePrompt(template, tokenizer, ["a"], config["n_candidates"], 1)
        longest = prompt.longest(config["n_history"], config["max_title_tokens"])
        llm_config: Any = skeleton.model.config
        positions = getattr(llm_config, "max_position_embeddings", None)
        if positions is not None and longest > positions:
            raise ValueError(
                f"a prompt can have {longest} tokens, and this model takes {positions}. Lower "
                f"n_history, n_candidates or max_title_tokens."
            )
        if not llm_config.tie_word_embeddings and lacks_head(skeleton.folder):
            raise ValueError(
                "its language-model head is not tied to the token embeddings, and the files do not "
                "hold it. Give the folder or id of the whole model, not that of a GGUF file."
            )

    def __init__(
        self,
        config: Config,
        dataset: MultimodalDataset,
        stage_outputs: Mapping[str, dict[str, Tensor]],
    ) -> None:
        super().__init__(config, dataset)
        self.ITEM_SEQ = self.ITEM_ID + config["LIST_SUFFIX"]
        self.ITEM_SEQ_LEN = config["ITEM_LIST_LENGTH_FIELD"]
        retriever = frozen_stage(config, "retriever", dataset, stage_outputs["retriever"])
        n_candidates = config["n_candidates"]
        self.candidates = Candidates(retriever, dataset, n_candidates, config["mask_history"])
        self.draws_random = config["train_candidates"] == "random"
        self.n_history = config["n_history"]

        self.llm, backbone = self.load_llm(config)
        template = load_template(config["prompt"])
        titles = read_titles(config, dataset.field2id_token[self.ITEM_ID])
        self.prompt = TitlePrompt(
            template, backbone.tokenizer, titles, n_candidates, config["max_title_tokens"]
        )
        letters = letter_ids(template[2], backbone.tokenizer, n_candidates)
        assert backbone.head is not None  # needs_head
        self.register_buffer("letter_rows", backbone.head[letters].float(), persistent=False)

    def forward(self, item_seq: Tensor, lengths: Tensor, candidates: Tensor) -> Tensor:
        """Return the logits (B, C) of the candidates' letters, float32.

        Args:
            item_seq: (B, S) int64, a user's items, oldest first, zeros behind them.
            lengths: (B,) int64.
            candidates: (B, C) int64; the first has the letter A.
        """
        width = min(self.n_history, item_seq.size(1))
        column = torch.arange(width, device=item_seq.device)
        first = (lengths - width).clamp(min=0).unsqueeze(1)  # (B, 1)
        ids, mask = self.prompt(item_seq.gather(1, first + column), candidates)
        words = self.llm.get_base_model().get_input_embeddings()(ids)  # (B, T, h)
        return last_hidden(self.llm, words, mask).float() @ self.letter_rows.T

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return the mean cross-entropy of the next item's letter among the candidates' letters.

        Rows whose next item is not among the retriever's C best are left out; a batch without any
        other row has the loss zero.
        """
        return self.loss_share(interaction, WHOLE)

    def loss_share(self, batch: Interaction, share: Share) -> Tensor:
        """Return a process's share of the loss: its own rows among those that count."""
        items, is_target = self._choices(batch)
        counted = is_target.any(dim=1)  # (B,)
        kept = torch.zeros_like(counted)
        kept[share.rows(len(counted))] = counted[share.rows(len(counted))]
        if not kept.any():
            return torch.zeros((), device=kept.device, requires_grad=True)
        letters = self(batch[self.ITEM_SEQ][kept], batch[self.ITEM_SEQ_LEN][kept], items[kept])
        place = is_target[kept].long().argmax(dim=1)
        return F.cross_entropy(letters, place, reduction="sum") / counted.sum()

    def _choices(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Return each row's candidates (B, C), shuffled, and which of them is the next item."""
        target, user = interaction[self.ITEM_ID], interaction[self.USER_ID]
        scores = self.candidates.scores(interaction)
        scores = self.candidates.open_scores(
            scores, user, interaction[self.ITEM_SEQ], interaction[N_BEFORE]
        )
        if self.draws_random:
            items = self.candidates.random_with(scores, target)
        else:
            items = self.candidates.retrieved(scores)
        items = shuffled(items)
        return items, items == target.unsqueeze(1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Return scores of every item for each user, (B * I,), flat as the evaluator expects."""
        user, item_seq = interaction[self.USER_ID], interaction[self.ITEM_SEQ]
        scores = self.candidates.scores(interaction)
        items = self.candidates.retrieved(self.candidates.open_scores(scores, user, item_seq))
        items = self.candidates.fixed_order(user, items)
        letters = self(item_seq, interaction[self.ITEM_SEQ_LEN], items)
        return lifted(scores, items, letters).flatten()

    def export_adapter(self, folder: Path) -> Path:
        """Write the LoRA weights as a folder that PEFT reads."""
        save_adapter(self.llm, folder)
        return folder
