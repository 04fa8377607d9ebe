"""RecBole's collector, which also gathers what the added metrics read."""

from typing import Any

from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.evaluator.collector import Collector, DataStruct
from torch import Tensor

from recbole_llm.metrics.base import FEATURES, TRAINING, USERS
from recbole_llm.metrics.diversity import unit_rows
from recbole_llm.metrics.training import training_of


class MetricCollector(Collector):
    """Collector of RecBole's with the training counts, items' features and lists' users."""

    def data_collect(self, train_data: AbstractDataLoader) -> None:
        """Gather what the metrics read of the training part.

        Raises:
            ValueError: a metric reads items' features, and this model's data set has none.
        """
        super().data_collect(train_data)
        dataset = train_data._dataset
        if self.register.need(TRAINING):
            self.data_struct.set(TRAINING, training_of(dataset.inter_matrix(form="coo")))
        if self.register.need(FEATURES):
            if not hasattr(dataset, "modality"):
                raise ValueError(
                    f"IntraListDiversity reads items' features, and RecBole gives the model "
                    f"{self.config['model']} a data set of its own without modalities. Leave the "
                    f"metric out."
                )
            feature = dataset.modality(self.config["diversity_modality"])
            self.data_struct.set(FEATURES, unit_rows(feature))

    def eval_batch_collect(
        self,
        scores_tensor: Tensor,
        interaction: Interaction,
        positive_u: Tensor,
        positive_i: Tensor,
    ) -> None:
        """Gather what the metrics read of one batch of full ranking."""
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if self.register.need(USERS):
            users = interaction[self.config["USER_ID_FIELD"]]
            self.data_struct.update_tensor(USERS, users)

    def get_data_struct(self) -> DataStruct:
        """Return what was gathered, and forget what belongs to one part."""
        struct: Any = super().get_data_struct()
        if USERS in self.data_struct:
            del self.data_struct[USERS]
        return struct
