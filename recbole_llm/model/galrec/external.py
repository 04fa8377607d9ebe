"""What GALRec takes from outside: embeddings of an earlier stage or of the text."""

from collections.abc import Mapping

from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.graph.sparse import spmm
from recbole_llm.llm.recommender import unit_variance
from recbole_llm.model.propagation import user_mean_matrix


def external_tables(
    config: Config, dataset: MultimodalDataset, stage_outputs: Mapping[str, dict[str, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Return the frozen embeddings of users (U, d) and items (I, d), h of eq. 3, of unit variance.

    LightGCN has embeddings of users. With text a user is the mean of their training items, and with
    SASRec that or the state at their last training item (``sasrec_user``).

    Raises:
        ValueError: the dataset has no modality of the name ``text_modality``.
    """
    chosen, modality = config["external_embedding"], config["text_modality"]
    if chosen == "text":
        found = {"item_embedding": dataset.modality(modality)}  # eq. 2
    else:
        found = stage_outputs["external"]
    item_table = found["item_embedding"].float().clone()
    item_table[0] = 0
    of_sasrec = config["sasrec_user"]
    use_mean = chosen == "text" or (chosen == "sasrec" and of_sasrec == "mean")
    if use_mean:
        user_table = spmm(user_mean_matrix(dataset), item_table)
    else:
        user_table = found["user_embedding"]
    return unit_variance(user_table), unit_variance(item_table)
