"""The declared settings of every run: ``overall.yaml``'s, RecBole's, and those of its models.

A model of ours declares its own as ``settings`` in its class.
"""

import re
from collections.abc import Mapping
from typing import Any

from recbole_llm.settings.group import (
    Either,
    ListOf,
    MapOf,
    Nested,
    Optional,
    Settings,
    declared_settings,
)
from recbole_llm.settings.values import Bool, Choice, Float, Int, Origin, Setting, Text

_INTERVAL = re.compile(r"[(\[]\s*[-+]?[\d.e]+\s*,\s*(?:[-+]?[\d.e]+|inf)\s*[)\]]")
_DEVICE = re.compile(r"cpu|mps|cuda(?::\d{1,3})?")
_MODE = re.compile(r"full|labeled|(?:uni|pop)[1-9]\d*")


class Intervals(Setting):
    """Intervals as text, such as ``[5,inf)``; RecBole would filter nothing by another text."""

    def accepts(self, value: Any) -> bool:
        """Return whether every part between semicolons is an interval."""
        return all(_INTERVAL.fullmatch(part.strip()) for part in str(value).split(";"))

    def words(self, plural: bool = False) -> str:
        """Return ``intervals such as "[5,inf)"``."""
        return 'intervals such as "[5,inf)"'

    def __str__(self) -> str:
        return "str"


class Device(Setting):
    """A device by torch's name."""

    def accepts(self, value: Any) -> bool:
        """Return whether torch has a device of this name; whether it is there is seen later."""
        return isinstance(value, str) and _DEVICE.fullmatch(value) is not None

    def words(self, plural: bool = False) -> str:
        """Return the names."""
        return "cpu, cuda, cuda:N (N a number from 0) or mps"

    def __str__(self) -> str:
        return "cpu | cuda | cuda:N | mps"


class Mode(Setting):
    """How a part is ranked: ``full``, ``labeled``, or against sampled items, ``uni100``."""

    def accepts(self, value: Any) -> bool:
        """Return whether RecBole knows the mode."""
        return isinstance(value, str) and _MODE.fullmatch(value) is not None

    def words(self, plural: bool = False) -> str:
        """Return the modes."""
        return "full, labeled, uniN or popN, N a number of sampled items"

    def __str__(self) -> str:
        return "str"


class Parts(ListOf):
    """One value for each of the three parts: training, validation, test."""

    def __init__(self, item: Setting) -> None:
        super().__init__(item, size=3)

    def hint(self, value: Any) -> str:
        """Say which parts are needed."""
        return " A run needs three parts: training, validation, test."


class Ratios(Parts):
    """Sizes of the three parts, relative to their sum."""

    def accepts(self, value: Any) -> bool:
        """Return whether there are three numbers, and training gets some interactions."""
        return super().accepts(value) and value[0] > 0


class OneOf(Nested):
    """A dict of one of the declared keys."""

    def words(self, plural: bool = False) -> str:
        """Return ``a dict with one of the keys a, b``."""
        return f"a dict with one of the keys {', '.join(self.keys)}"

    def check(self, name: str, value: Any, origin: Origin) -> None:
        """Compare a dict with the declaration.

        Raises:
            ValueError: it is no dict, has no key or several, or its key or value is wrong.
        """
        super().check(name, value, origin)
        if len(value) != 1:
            Setting.check(self, name, value, origin)

    def accepts(self, value: Any) -> bool:
        """Return whether the dict has one key, which is declared with its value."""
        return super().accepts(value) and len(value) == 1


class Modality(Setting):
    """Item features: a file's name, or a dict of what they are made of; see ``data.modality``."""

    _encoded = Nested(required=("text",), text=ListOf(Text(), or_one=True), encoder=Text())
    _other = OneOf(file=Text(), text=ListOf(Text()), multi_hot=Text(), tfidf=Text())

    def accepts(self, value: Any) -> bool:
        """Return whether the value is in one of the forms."""
        return any(form.accepts(value) for form in (Text(), self._encoded, self._other))

    def words(self, plural: bool = False) -> str:
        """Return the forms."""
        return (
            "features.npy, {file: features.npy}, {text: [column, ...], encoder: all-minilm-l6-v2}, "
            "{multi_hot: column} or {tfidf: column}"
        )

    def check(self, name: str, value: Any, origin: Origin) -> None:
        """Compare a value with the forms.

        Raises:
            ValueError: a key of a dict is unknown, or the value has another form.
        """
        if isinstance(value, Mapping):
            (self._encoded if "text" in value else self._other).check(name, value, origin)
        else:
            super().check(name, value, origin)

    def __str__(self) -> str:
        return "specs"


_EVAL_ARGS = Nested(
    split=OneOf(
        RS=Ratios(Float(0)),
        LS=Choice("valid_and_test", "valid_only", "test_only"),
        TS=Ratios(Float(0)),
    ),
    order=Choice("RO", "TO"),
    group_by=Optional(Choice("user", "none")),
    mode=Either(Mode(), Nested(valid=Mode(), test=Mode())),
)
_NEGATIVES = Nested(
    distribution=Optional(Choice("uniform", "popularity")),
    sample_num=Int(1),
    alpha=Float(),
    dynamic=Bool(),
    candidate_num=Int(0),
)
_CLIPPING = Nested(
    required=("max_norm",),
    max_norm=Float(above=0),
    norm_type=Float(above=0, or_inf=True),
    error_if_nonfinite=Bool(),
    foreach=Optional(Bool()),
)
_COLUMNS = Optional(MapOf(Either(ListOf(Text(), empty=True), Choice("*"))))
_NAMES = Optional(ListOf(Text(), or_one=True, empty=True))

#: Keys of ``properties/overall.yaml``.
OVERALL = Settings(
    metrics=ListOf(Text()),
    topk=ListOf(Int(1)),
    valid_metric=Text(),
    metric_decimal_place=Int(0, 15),
    rbp_persistence=Float(above=0, below=1),
    active_users=Float(above=0, below=1),
    diversity_modality=Optional(Text()),
    eval_batch_size=Int(1),
    eval_users=Int(1),
    mask_history=Bool(),
    protocol=Optional(Choice("loo", "random811")),
    split=Optional(Text()),
    save_topk=Int(0),
    stopping_step=Int(0),
    lr_schedule=Choice("constant", "exponential", "cosine", "linear"),
    lr_decay=Float(above=0, high=1),
    lr_decay_epochs=Float(above=0),
    warmup_epochs=Float(0),
    min_learning_rate=Float(0),
    gradient_accumulation_steps=Int(1),
    adam_betas=ListOf(Float(0, below=1), size=2),
    seed=Int(0, 2**32 - 1),  # numpy's range
    resume=Bool(),
    checkpoint_s=Float(0),
    device=Optional(Device()),
    torch_threads=Optional(Int(1, 1024)),  # torch dies of a number that the system cannot start
    data_path=Text(),
    modalities=Optional(MapOf(Modality())),
    encoding=Text(),
    missing_modality=Choice("zero", "mean", "error"),
    modality_scaling=Choice("none", "l2", "standard"),
    checkpoint_dir=Text(),
    cache_dir=Text(),
    runs_dir=Text(),
)

#: Keys of RecBole's own that any run has; those of a data set among them.
RECBOLE = Settings(
    epochs=Int(0),
    train_batch_size=Int(1),
    learner=Choice("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam", any_case=True),
    # 100: above what any optimizer is run with (SGD on language models: 30); weights of float32
    # are lost in one step of a much larger one.
    learning_rate=Float(above=0, high=100),
    weight_decay=Float(0),
    train_neg_sample_args=Optional(_NEGATIVES),
    eval_step=Int(0),
    clip_grad_norm=Optional(_CLIPPING),
    eval_args=_EVAL_ARGS,
    state=Choice("debug", "info", "warning", "error", "critical", any_case=True),
    worker=Int(0),
    loss_decimal_place=Int(0),
    MAX_ITEM_LIST_LENGTH=Int(1),
    field_separator=Text(),
    seq_separator=Text(),
    load_col=_COLUMNS,
    unload_col=_COLUMNS,
    unused_col=_COLUMNS,
    additional_feat_suffix=_NAMES,
    benchmark_filename=Optional(Parts(Text())),
    user_inter_num_interval=Optional(Intervals()),
    item_inter_num_interval=Optional(Intervals()),
    rm_dup_inter=Optional(Choice("first", "last")),
    seq_len=Optional(MapOf(Int(1))),
    threshold=Optional(MapOf(Float())),
    val_interval=Optional(MapOf()),
    alias_of_user_id=_NAMES,
    alias_of_item_id=_NAMES,
    alias_of_entity_id=_NAMES,
    alias_of_relation_id=_NAMES,
)

_SIZES = (
    "embedding_size hidden_size inner_size n_layers n_heads num_heads num_layers attention_size "
    "kg_embedding_size mf_embedding_size mlp_embedding_size user_embedding_size "
    "item_embedding_size latent_dimension k"
).split()
_DROPOUTS = (
    "dropout_prob hidden_dropout_prob attn_dropout_prob node_dropout message_dropout mess_dropout "
    "node_dropout_rate mess_dropout_rate drop_ratio sess_dropout item_dropout corruption_ratio"
).split()
_WEIGHTS = "reg_weight reg_weight_1 reg_weight_2 ssl_weight ssl_reg proto_reg cor_weight".split()
_SCALES = "temperature ssl_temp ssl_tau layer_norm_eps initializer_range".split()

#: Keys that RecBole's models share, or a user's own may have.
SHARED = Settings(
    **{key: Int(1) for key in _SIZES},
    **{key: Float(0, below=1) for key in _DROPOUTS},
    **{key: Float(0) for key in _WEIGHTS},
    **{key: Float(above=0) for key in _SCALES},
    hidden_act=Choice("gelu", "relu", "swish", "tanh", "sigmoid"),
    loss_type=Choice("BPR", "CE", "BCE", "MSE"),
)

#: Keys that every model of ours sets in its YAML file.
TRAINING = RECBOLE.pick("learning_rate", "train_batch_size", "epochs") | Settings(
    protocol=Choice("loo", "random811")
)


def settings_of_run(model_class: type, defaults: Mapping[str, Any]) -> Settings:
    """Return the declarations of a run's settings; a model's own go over the shared ones.

    Args:
        model_class: class of the model.
        defaults: values by key before the user's; where RecBole has a list, each of its models
            reads it in its own way.
    """
    shared = [key for key in SHARED if key in defaults and not isinstance(defaults[key], list)]
    recbole = [key for key in RECBOLE if key in defaults]
    declared = OVERALL | RECBOLE.pick(*recbole) | SHARED.pick(*shared)
    return declared | declared_settings(model_class)
