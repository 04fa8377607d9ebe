"""The keys of a spec: what may stand in the YAML file, with types and ranges.

Each class is one mapping of the file. Descriptions are shown by editors that read
``benchmarks/spec.schema.json``, which ``make schema`` writes from these classes.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, Tag, TypeAdapter

from recbole_llm.sweep.fields import (
    Metrics,
    Number,
    Settings,
    Texts,
    by_kind,
    name_in,
    tagged,
)
from recbole_llm.sweep.sampler import PRUNERS, SAMPLERS
from recbole_llm.sweep.space_entry import SpaceEntry
from recbole_llm.sweep.validation import TAG, Entry

Grid = Annotated[dict[str, Annotated[list[JsonValue], Field(min_length=1)]], Field(min_length=1)]
GridEntry = Annotated[
    Annotated[Grid, Tag(f"{TAG}grid")]
    | Annotated[Annotated[list[Grid], Field(min_length=1)], Tag(f"{TAG}grids")],
    tagged(
        lambda entry: {dict: "grid", list: "grids"}.get(type(entry)),
        "`key: [values]` lines, or a list of such",
    ),
]


class RowEntry(Entry):
    """A line of the table: a model with settings of its own, tuned if it has a space."""

    label: str | None = Field(None, description="Name of the row; left out, the model's.")
    model: str = Field(description="A model, or package.module:Class.")
    settings: Settings | None = Field(None, description="Settings of this row's runs.")
    space: SpaceEntry | None = Field(
        None, description="Searched parameters of this row, in place of the spec's."
    )
    n_trials: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Number of trials of this row, in place of the search's."
    )
    metric: str | None = Field(
        None, description="Validation metric of this row, in place of the spec's."
    )
    published: str | None = Field(
        None, description="Label of the row in the paper's table, if it differs."
    )


class Search(Entry):
    """How each row is tuned; the names of samplers and pruners are in ``sampler.py``."""

    sampler: Annotated[str, *name_in(SAMPLERS)] = Field("tpe", description="Optuna's sampler.")
    seed: int = Field(0, ge=0, description="Seed of the sampler.")
    pruner: Annotated[str, *name_in(PRUNERS)] = Field(
        "none", description="Pruner, which sees the validation metric of each epoch."
    )
    n_trials: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Number of trials of each row; a grid may leave it out."
    )
    timeout_s: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="Seconds that a row's trials may take, summed over workers."
    )
    max_retry: int = Field(2, ge=0, description="How often a trial whose worker died is repeated.")
    warmup_epochs: int = Field(0, ge=0, description="Validations before a trial may be pruned.")
    startup_trials: int = Field(5, ge=0, description="Finished trials before one may be pruned.")


class MetricsTable(Entry):
    """A table of metrics on the test part."""

    kind: Literal["metrics"] = "metrics"
    metrics: Metrics | None = Field(None, description="Columns; left out, all that is measured.")
    title: str | None = Field(None, description="Title; left out, the spec's.")


class CostTable(Entry):
    """A table of seconds and memory of each stage."""

    kind: Literal["cost"]
    title: str | None = Field(None, description="Title; left out, Cost of each stage.")


TableEntry = Annotated[
    Annotated[MetricsTable, Tag(f"{TAG}metrics")] | Annotated[CostTable, Tag(f"{TAG}cost")],
    by_kind(["metrics", "cost"], default="metrics"),
]


class _Figure(Entry):
    title: str | None = Field(None, description="Title above the figure.")


class _Chart(_Figure):
    metrics: Metrics | None = Field(None, description="Metrics; left out, recall@20.")
    part: Literal["valid", "test"] = Field(
        "valid", description="Part of the data that the metrics are measured on."
    )


class LineFigure(_Chart):
    """Lines over one key of the grid, with a band over the seeds."""

    kind: Literal["line"]
    x: str = Field(description="Key of the grid on the horizontal axis.")
    symbol: str | None = Field(None, description="Label of the axis; left out, the key.")
    log: bool = Field(False, description="Whether the horizontal axis is logarithmic.")


class HeatmapFigure(_Chart):
    """A heat map over two keys of the grid."""

    kind: Literal["heatmap"]
    x: str = Field(description="Key of the grid on the horizontal axis.")
    y: str = Field(description="Key of the grid on the vertical axis.")
    x_symbol: str | None = Field(None, description="Label of the horizontal axis.")
    y_symbol: str | None = Field(None, description="Label of the vertical axis.")
    metrics: Annotated[Metrics, Field(max_length=1)] | None = Field(
        None, description="The one metric; left out, recall@20."
    )


class BarsFigure(_Chart):
    """A bar for each row."""

    kind: Literal["bars"]


class EmbeddingsFigure(_Figure):
    """Users in the plane by t-SNE, drawn from the runs' checkpoints."""

    kind: Literal["embeddings"]
    n_users: int = Field(500, ge=5, description="Number of users, drawn at random.")


FigureEntry = Annotated[
    Annotated[LineFigure, Tag(f"{TAG}line")]
    | Annotated[HeatmapFigure, Tag(f"{TAG}heatmap")]
    | Annotated[BarsFigure, Tag(f"{TAG}bars")]
    | Annotated[EmbeddingsFigure, Tag(f"{TAG}embeddings")],
    by_kind(["line", "heatmap", "bars", "embeddings"]),
]


class Profile(Entry):
    """The keys of a spec that a profile may replace."""

    title: str = Field("", description="Title of the report.")
    source: str = Field("", description="Paper, with its table or figure and section.")
    note: str = Field("", description="What a reader of the report must know.")
    datasets: Texts | None = Field(None, description="Datasets that every row is trained on.")
    protocol: str | None = Field(
        None, description="loo or random811; left out, the model's own, or the data's split."
    )
    metric: str = Field(
        "Recall@20", description="Validation metric that chooses the epoch and the configuration."
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        [2020], description="Seeds that every row is trained with; trials use the first."
    )
    settings: Settings | None = Field(None, description="Settings of every run.")
    model_settings: dict[str, Settings | None] | None = Field(
        None, description="Settings of every run of a model, by its name; over settings."
    )
    models: Texts | None = Field(None, description="Models, each a row; or give rows.")
    rows: Annotated[list[RowEntry], Field(min_length=1)] | None = Field(
        None, description="Rows of the table; or give models."
    )
    space: SpaceEntry | None = Field(
        None, description="Searched parameters of the rows that have no space of their own."
    )
    search: Search | None = Field(None, description="How the rows with a space are tuned.")
    grid: GridEntry | None = Field(
        None, description="Points to run with every seed, in place of a search."
    )
    tables: list[TableEntry] | None = Field(
        None, description="Tables of the report; left out, one of metrics if there is no figure."
    )
    figures: list[FigureEntry] | None = Field(None, description="Figures of the report.")
    compare: str | None = Field(
        None, description="Label of the row whose improvement and significance are reported."
    )
    published: str | None = Field(
        None, description="The paper's own numbers, file/table under benchmarks/published/."
    )


class SpecFile(Profile):
    """A spec as it is written."""

    name: str | None = Field(
        None, description="Name of the report's folder and the studies; left out, folder-file."
    )
    datasets: Texts = Field(description="Datasets that every row is trained on.")
    profiles: dict[str, Profile] | None = Field(
        None, description="Changes of the spec by name, chosen with --profile."
    )


def spec_schema() -> dict[str, Any]:
    """Return the JSON schema of a spec, for editors."""
    schema = TypeAdapter(SpecFile).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
