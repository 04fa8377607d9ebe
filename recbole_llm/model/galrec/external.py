"""The external embeddings of users and items, h of eq. 3: a first stage's, or encoded text."""

from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.sparse import spmm
from recbole_llm.llm.recommender import unit_variance
from recbole_llm.model.propagation import user_mean_matrix
from recbole_llm.registry import StageSpec

#: The first stage by ``external_embedding``; ``text`` needs none.
STAGES = {"lightgcn": StageSpec("LightGCN"), "sasrec": StageSpec("SASRecCausal")}


def external_tables(
    config: Config, dataset: MultimodalDataset, stage_outputs: dict[str, dict[str, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Return the frozen embeddings of users (U, d) and items (I, d), h of eq. 3, of unit variance.

    Raises:
        ValueError: the data set has no such text modality.
    """
    chosen, modality = config["external_embedding"], config["text_modality"]
    if chosen == "text":
        found = {"item_embedding": dataset.modality(modality)}  # eq. 2
    else:
        found = stage_outputs["external"]
    item_table = found["item_embedding"].float().clone()
    item_table[0] = 0
    user_table = found.get("user_embedding")
    if user_table is None:
        user_table = spmm(user_mean_matrix(dataset), item_table)
    return unit_variance(user_table), unit_variance(item_table)
