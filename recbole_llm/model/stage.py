"""Earlier stages that models share: embeddings from outside, and a whole model as a part."""

from collections.abc import Mapping

from recbole.data.dataset.dataset import Dataset
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.registry import StageSpec

#: Stage that trains the embeddings which ``external_embedding`` names.
EXTERNAL_STAGES = {"lightgcn": StageSpec("LightGCN"), "sasrec": StageSpec("SASRecCausal")}

_PREFIX = "weights."


def exported_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a model as entries of its ``export()``, on the CPU."""
    return {f"{_PREFIX}{name}": value.cpu() for name, value in model.state_dict().items()}


def frozen_stage(
    config: Config, name: str, dataset: Dataset, output: Mapping[str, Tensor]
) -> nn.Module:
    """Build the model of an earlier stage with the weights that it exported.

    Args:
        config: settings of the later model.
        name: name of the stage.
        dataset: training part that the stage was trained on.
        output: tensors that the stage exported, those of ``exported_weights`` among them.

    Returns:
        The model in evaluation mode; none of its weights takes a gradient.
    """
    settings = config.stages[name]
    model = settings.model_class(settings, dataset)
    weights = {
        key.removeprefix(_PREFIX): value for key, value in output.items() if key.startswith(_PREFIX)
    }
    model.load_state_dict(weights)
    return model.requires_grad_(False).eval()
