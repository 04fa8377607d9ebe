"""The Python API: everything that the commands do, as functions. ``import recbole_llm`` has them.

record = recbole_llm.run("LightGCN", "ml-100k", epochs=5)
loaded = recbole_llm.load(record.folder)
loaded.recommend(users=["196"], k=10)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_llm.data.freeze import data_config, freeze_split
from recbole_llm.features.pipeline import Encoded, encode_items
from recbole_llm.features.settings import EncodeSettings
from recbole_llm.options import declared_options
from recbole_llm.prepare.build import Prepared, prepare_dataset
from recbole_llm.prepare.sources import SOURCES
from recbole_llm.quick_start import run
from recbole_llm.registry import suggest
from recbole_llm.report.write import DEFAULT_RUNS, WrittenReport, write_report
from recbole_llm.runs.loaded import LoadedRun, load
from recbole_llm.splitting.frozen import FrozenSplit
from recbole_llm.sweep.driver import sweep_spec
from recbole_llm.sweep.summary import Summary

__all__ = ["LoadedRun", "encode", "load", "prepare", "report", "run", "split", "sweep"]


def sweep(
    spec: str | Path,
    profile: str | None = None,
    storage: str | None = None,
    workers: int = 1,
    **settings: Any,
) -> Summary:
    """Tune every row of a spec on every dataset, then train each choice with every seed.

    A second call resumes the sweep. All settings are checked before the first trial.

    Args:
        spec: YAML file, such as ``benchmarks/hellm/table2.yaml``.
        profile: name of a profile of the spec, such as ``small``; None: the spec as it stands.
        storage: ``sqlite:///file``, ``postgresql://...`` or a journal file; None: SQLite in
            ``runs/sweeps``.
        workers: number of processes.
        settings: settings on which no number depends, such as ``data_path``.

    Returns:
        Each row's choice, how its budget was spent, and whether every row has its final runs.

    Raises:
        ValueError, OSError: the spec, a setting, a dataset or the storage is wrong.
        RuntimeError: every worker died, and work is left.
    """
    return sweep_spec(spec, profile, storage, workers, overrides=settings)


def report(
    spec: str | Path,
    profile: str | None = None,
    runs: Sequence[str | Path] = DEFAULT_RUNS,
    output: str | Path = "reports",
) -> WrittenReport:
    """Write ``<output>/<name>/``: tables, figures and a page of a spec, from records of runs.

    Args:
        spec: YAML file that was swept.
        profile: name of a profile of the spec; None: the first one that has runs.
        runs: folders of run records.
        output: parent of the report's folder.

    Raises:
        ValueError, OSError: the spec, a record or a folder is wrong.
    """
    return write_report(spec, profile, runs, output)


def prepare(
    source: str,
    data_path: str | Path = "dataset",
    *,
    name: str | None = None,
    filters: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    allow_malformed: bool = False,
    raw_dir: str | Path | None = None,
    mirror: str | None = None,
    **options: Any,
) -> Prepared:
    """Build the dataset ``<data_path>/<name>`` from its public source, or from your own files.

    Args:
        source: name of the source, such as ``amazon2014``, ``movielens`` or ``csv``.
        data_path: parent of the dataset's folder.
        name: name of the dataset; None: the source's default.
        filters: rules for what is left out: ``k_core``, ``min_rating``, ``duplicates``, ``since``,
            ``until``; the source's defaults for those that are not given.
        overwrite: whether a folder that exists is replaced.
        allow_malformed: whether more than 2 % of a file's lines may be malformed and left out.
        raw_dir: folder of raw files; None: ``<data_path>/raw/<source>``.
        mirror: address to fetch from in place of the official one.
        options: options of the source, such as ``category="Sports_and_Outdoors"``, ``size="100k"``
            or ``inter="ratings.csv"``.

    Returns:
        The folder and its manifest.

    Raises:
        ValueError, OSError: an option, a file or the network is wrong; the text says what to do.
    """
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}.{suggest(source, list(SOURCES))}")
    declared = {option.name: option for option in SOURCES[source].options}
    for key in options:
        if key not in declared:
            raise ValueError(
                f"source {source!r} has no option {key!r}.{suggest(key, list(declared))}"
            )
    for key, option in declared.items():
        if option.required and options.get(key) is None:
            raise ValueError(f"source {source!r} needs the option {key!r}: {option.help}.")
    values = {key: options.get(key, option.default) for key, option in declared.items()}
    chosen = SOURCES[source].from_options(values)
    rules = dict(filters or {})
    for key in rules:
        if key not in chosen.filters._fields:
            raise ValueError(
                f"there is no filter {key!r}.{suggest(key, list(chosen.filters._fields))}"
            )
    return prepare_dataset(
        chosen,
        Path(data_path),
        name=name,
        filters=chosen.filters._replace(**rules),
        raw_dir=None if raw_dir is None else Path(raw_dir),
        mirror=mirror,
        overwrite=overwrite,
        allow_malformed=allow_malformed,
    )


def encode(dataset: str, modality: str, **options: Any) -> Encoded:
    """Make the feature file ``<modality>_feat.npy`` of a dataset's items.

    Args:
        dataset: name of the dataset.
        modality: name of the modality, such as ``text`` or ``image``.
        options: options of ``recbole_llm encode`` (``encoder``, ``columns``, ``image_folder``, ...)
            and settings of the data (``data_path``, ``cache_dir``, ...).

    Returns:
        The file, its manifest, and whether it was made by this call.

    Raises:
        ValueError, OSError, ImportError: an option, the data, the encoder or a file is wrong.
    """
    names = set(declared_options(EncodeSettings))
    own = {key: value for key, value in options.items() if key in names}
    data = {key: value for key, value in options.items() if key not in names}
    settings = EncodeSettings(modality=modality, **own)
    return encode_items(settings, data_config(dataset, None, data))


def split(
    dataset: str,
    protocol: str,
    name: str | None = None,
    *,
    cold_share: float = 0.2,
    unseen_users: str | None = None,
    **settings: Any,
) -> FrozenSplit:
    """Freeze a split into ``<data_path>/<dataset>/splits/<name>``, for ``run(..., split=name)``.

    Args:
        dataset: name of the dataset.
        protocol: ``loo``, ``random811``, ``temporal811``, ``global_time``, ``cold_users`` or
            ``cold_items``.
        name: name of the split; None: the protocol's, with the seed where it draws.
        cold_share: share of cold users or items.
        unseen_users: ``drop`` or ``keep`` held-out interactions of users without a training one;
            None leaves it to the protocol.
        settings: settings of the data, such as ``data_path``, ``seed`` or filters.

    Raises:
        ValueError, OSError: the data cannot be split so, or a setting is wrong.
    """
    config = data_config(dataset, protocol, settings)
    return freeze_split(config, protocol, name, cold_share=cold_share, unseen_users=unseen_users)[0]
