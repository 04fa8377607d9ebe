"""E4SRec: a language model that reads a user's items as frozen embeddings, through one linear map.

Reference: X. Li et al., "E4SRec: An Elegant Effective Efficient Extensible Solution of Large
Language Models for Sequential Recommendation", arXiv:2312.02443. A first stage trains the item
embeddings. HeLLM's rows CoLLM and LLaRA are this model with LightGCN's and SASRec's embeddings, see
benchmarks/hellm/CoLLM-HeLLM.yaml and LLaRA-HeLLM.yaml.

Departs from the paper or from its authors' code (HestiaSky/E4SRec, commit 4756e5f):

- ``training: windows`` trains every item of a window in one forward pass; the authors make a sample
  of each prefix (``prefixes``), of the last 50 items of a user, and one without any history.
- ``head: tied`` scores by the frozen item table. The authors train a bias-free linear layer
  (``head: full``, ``head_init: random``), whose classes include the padding item.
- The frozen table is scaled to unit variance, and an item starts as large as a word. The authors
  take both as they come.
- The prompt's wording is ours. In the authors' batches shorter histories are padded between the
  instruction and the items, which moves the two apart; here in front of the prompt.
- SASRec is trained by cross-entropy, theirs by a binary one. The frozen trunk is float32, theirs
  int8.
- The history is cut to the most recent items; the authors state 50 and cut nothing.
- The epoch is chosen by validation; the authors take the last of three.
- ``mask_history`` hides known items. The authors' inference.py does so too; their finetune.py ranks
  the next item among sampled ones.
- The authors' "general" task, without order and with a user's embedding, is not here.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.llm.item_recommender import ITEM_SETTINGS, ItemRecommender
from recbole_llm.llm.recommender import unit_variance
from recbole_llm.model.base import ModelHooks
from recbole_llm.model.stage import EXTERNAL_STAGES
from recbole_llm.registry import StageSpec
from recbole_llm.settings.group import MapOf, Settings
from recbole_llm.settings.values import Choice


class E4SRec(ItemRecommender, ModelHooks):
    """I: items, counting padding id 0. h: the LLM's hidden size.

    Config keys: those of ``ItemRecommender``, ``external_embedding``.

    Args:
        config: settings.
        dataset: the training part.
        stage_outputs: "external" with ``item_embedding`` (I, d).
    """

    settings = ITEM_SETTINGS | Settings(
        external_embedding=Choice(*EXTERNAL_STAGES), external_stage=MapOf()
    )

    @classmethod
    def required_stages(cls, config: Config) -> dict[str, StageSpec]:
        """Return the stage that trains the item embeddings."""
        return {"external": EXTERNAL_STAGES[config["external_embedding"]]}

    def __init__(
        self,
        config: Config,
        dataset: MultimodalDataset,
        stage_outputs: Mapping[str, dict[str, Tensor]],
    ) -> None:
        item_table = stage_outputs["external"]["item_embedding"].float().clone()
        item_table[0] = 0
        super().__init__(config, dataset, unit_variance(item_table))

    def build_projection(self, config: Config, width: int, hidden_size: int) -> nn.Module:
        """Build the linear map W e + b."""
        return nn.Linear(width, hidden_size)
