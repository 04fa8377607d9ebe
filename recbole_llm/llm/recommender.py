"""The base of models on a frozen language model: its loading, and their state without it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from recbole.model.abstract_recommender import GeneralRecommender
from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.llm.backbone import Backbone, load_backbone
from recbole_llm.llm.decoder import decoder_layers
from recbole_llm.llm.lora import add_lora
from recbole_llm.llm.skeleton import Skeleton, build_skeleton
from recbole_llm.settings.group import ListOf, Optional, Settings
from recbole_llm.settings.run import OVERALL, RECBOLE, TRAINING
from recbole_llm.settings.values import Bool, Choice, Float, Int, Text

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn

#: Settings of ``load_llm``, and the training settings that models on a language model set.
LLM_SETTINGS = (
    TRAINING
    | RECBOLE.pick("learner", "weight_decay", "MAX_ITEM_LIST_LENGTH")
    | OVERALL.pick(
        "lr_schedule", "warmup_epochs", "min_learning_rate", "stopping_step", "eval_users"
    )
    | Settings(
        llm_path=Text(),
        llm_revision=Optional(Text()),
        llm_num_layers=Optional(Int(1)),
        llm_dtype=Choice("float32", "bfloat16", "float16", "auto"),
        llm_4bit=Bool(),
        gradient_checkpointing=Bool(),
        lora_r=Int(1),
        lora_alpha=Int(1),
        lora_dropout=Float(0, below=1),
        lora_targets=ListOf(Text()),
        prefixes_per_user=Int(0),
    )
)


class FrozenTrunkRecommender(GeneralRecommender):
    """A model on a frozen language model; its state holds the trained weights and no others.

    Attributes:
        backbone_source: ``Backbone.source`` as JSON text; saved next to the state, and compared
            when it is loaded.
        saved_buffers: prefixes of the names of buffers that belong to the state as well.
        takes_encoder_decoder: whether an encoder-decoder of the T5 family may take a decoder's
            place.
        needs_head: whether the language-model head is loaded as well.
    """

    backbone_source: str
    saved_buffers: tuple[str, ...] = ()
    takes_encoder_decoder: ClassVar[bool] = False
    needs_head: ClassVar[bool] = False

    @classmethod
    def check_available(cls, config: Config) -> None:
        """Look up the language model's files and layers before anything is trained.

        Raises:
            ValueError, OSError, ImportError: as ``build_skeleton`` and ``check_layers``.
        """
        path = config["llm_path"]
        skeleton = build_skeleton(
            path,
            revision=config["llm_revision"],
            num_layers=config["llm_num_layers"],
            encoder_decoder=cls.takes_encoder_decoder,
            cache_dir=config["cache_dir"],
        )
        try:
            cls.check_layers(config, skeleton)
        except ValueError as error:
            kind = skeleton.model.config.model_type
            raise ValueError(
                f"llm_path={path!r}, a {kind!r} model, does not do for {cls.__name__} with these "
                f"settings: {error}"
            ) from error

    @classmethod
    def check_layers(cls, config: Config, skeleton: Skeleton) -> None:
        """Compare the language model's layers with the settings; LoRA is put on the skeleton.

        Raises:
            ValueError: a layer that the settings need is missing.
        """
        if config["gradient_checkpointing"] and not skeleton.model.config.is_encoder_decoder:
            decoder_layers(skeleton.model)
        _adapted(config, skeleton.model)

    def load_llm(self, config: Config) -> tuple[PeftModel, Backbone]:
        """Load the language model with LoRA weights on it, and keep its source for checkpoints.

        Config keys: ``llm_path`` ``llm_revision`` ``llm_num_layers`` ``llm_dtype`` ``llm_4bit``
        ``gradient_checkpointing`` ``cache_dir``, ``lora_r`` ``lora_alpha`` ``lora_dropout``
        ``lora_targets``.

        Args:
            config: settings of the model.

        Returns:
            The model with LoRA weights, and the backbone, with its tokenizer and shape.

        Raises:
            ValueError, OSError, ImportError: as ``load_backbone`` and ``add_lora``.
        """
        backbone = load_backbone(
            config["llm_path"],
            revision=config["llm_revision"],
            num_layers=config["llm_num_layers"],
            dtype=config["llm_dtype"],
            load_in_4bit=config["llm_4bit"],
            gradient_checkpointing=config["gradient_checkpointing"],
            encoder_decoder=self.takes_encoder_decoder,
            with_head=self.needs_head,
            cache_dir=config["cache_dir"],
        )
        self.backbone_source = json.dumps(backbone.source, sort_keys=True)
        self.other_parameter_name = ["backbone_source"]
        return _adapted(config, backbone.model), backbone

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
            names = {name for name, _ in given ^ own}
            raise ValueError(
                f"the checkpoint does not fit this {type(self).__name__}: {len(names)} weights are "
                f"missing, unexpected or of another shape, e.g. {min(names)}. Were the settings "
                f"the same when it was saved?"
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


def _adapted(config: Config, model: nn.Module) -> PeftModel:
    """Put LoRA weights on a trunk as the settings have them."""
    return add_lora(
        model,
        r=config["lora_r"],
        alpha=config["lora_alpha"],
        dropout=config["lora_dropout"],
        target_modules=config["lora_targets"],
    )


def unit_variance(table: Tensor) -> Tensor:
    """Scale embeddings (I, d) to unit variance over all rows but the padding's, as float32."""
    table = table.float()
    return table / table[1:].std().clamp(min=1e-12)
