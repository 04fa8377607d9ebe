"""What every model on a frozen language model saves, and checks when it loads."""

from typing import Any

from torch import nn


class TrainedOnly(nn.Module):
    """A model whose state is what was trained, without a frozen weight.

    Attributes:
        backbone_source: ``Backbone.source`` as JSON text; saved beside the state and compared.
        saved_buffers: beginnings of the names of buffers that belong to the state as well.
    """

    backbone_source: str
    saved_buffers: tuple[str, ...] = ()

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the trained weights and ``saved_buffers``."""
        kept = {name for name, weight in self.named_parameters() if weight.requires_grad}
        kept |= {name for name, _ in self.named_buffers() if name.startswith(self.saved_buffers)}
        full = super().state_dict(*args, **kwargs)
        return {name: value for name, value in full.items() if name in kept}

    def load_state_dict(self, state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load what ``state_dict`` returned.

        Raises:
            ValueError: weights are missing, unexpected or of another shape.
        """
        given, own = (
            {(name, tuple(value.shape)) for name, value in state.items()}
            for state in (state_dict, self.state_dict())
        )
        if given != own:
            odd = {name for name, _ in given ^ own}
            raise ValueError(
                f"the checkpoint does not fit this {type(self).__name__}: {len(odd)} weights are "
                f"missing, unexpected or of another shape, e.g. {min(odd)}. Were the settings the "
                f"same when it was saved?"
            )
        return super().load_state_dict(state_dict, strict=False)

    def load_other_parameter(self, para: dict[str, Any] | None) -> None:
        """Check that the weights were trained on this language model.

        Raises:
            ValueError: they were trained on another one.
        """
        if para and para["backbone_source"] != self.backbone_source:
            raise ValueError(
                f"the checkpoint was trained on {para['backbone_source']}, but the language model "
                f"loaded is {self.backbone_source}."
            )
