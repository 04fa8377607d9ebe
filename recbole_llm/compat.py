"""Everything RecBole 1.2.1 needs on today's numpy, pandas and scipy, in one place.

Importing this module applies the repairs once. Each one replaces a piece of upstream text that is
checked to be there first, so another RecBole release fails loudly here and not silently later.
``recbole.quick_start`` (and with it ray) is never imported.
"""

import importlib
import importlib.metadata
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse
import torch

from recbole_llm.tables import (
    MISSING_NUMBERS,
    check_count,
    check_values,
    count_rows,
    first_fault,
    read_header,
)

SUPPORTED_RECBOLE = "1.2.1"


def _check_recbole() -> None:
    try:
        found = importlib.metadata.version("recbole")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(
            f"RecBole is not installed. Install it without its pinned dependencies: "
            f"pip install --no-deps recbole=={SUPPORTED_RECBOLE}"
        ) from None
    if found != SUPPORTED_RECBOLE:
        raise ImportError(
            f"recbole-llm extends RecBole {SUPPORTED_RECBOLE}, found {found}. "
            f"Run: pip install --no-deps recbole=={SUPPORTED_RECBOLE}"
        )


def _restore_numpy_aliases() -> None:
    """Give back the two numpy names that RecBole still uses; numpy 1.24 removed them."""
    for alias, target in (("float", np.float64), ("str", np.str_)):
        if alias not in np.__dict__:
            setattr(np, alias, target)


def _restore_dok_update() -> None:
    """Give back ``dok_matrix._update``, which seven models call; gone since scipy 1.13."""

    def update(self: Any, data: dict[tuple[int, int], float]) -> None:
        self._dict.update(data)

    if not hasattr(scipy.sparse.dok_matrix, "_update"):
        scipy.sparse.dok_matrix._update = update


#: Draws in a row that may all be rejected before a sampler gives up.
MAX_REJECTIONS = 100_000


def bounded_rejections(is_rejected: Callable[[], bool]) -> Iterator[None]:
    """Yield as long as a draw is rejected; in place of RecBole's loops that may never end.

    Raises:
        ValueError: ``MAX_REJECTIONS`` draws in a row were rejected.
    """
    for _ in range(MAX_REJECTIONS):
        if not is_rejected():
            return
        yield
    raise ValueError(
        f"no negative item was found in {MAX_REJECTIONS:,} draws: a user has interacted with "
        f"(almost) every item that can be drawn. Drop such users, for example by "
        f"--user_inter_num_interval, or choose a model that needs no negative items."
    )


def _rewrite(owner: type, method: str, *edits: tuple[str, str], times: int = 1) -> None:
    """Recompile ``owner.method`` with each (old, new) text edit applied.

    Args:
        owner: class of RecBole.
        method: name of its method.
        edits: old text and new text.
        times: how often each old text stands in the upstream source.

    Raises:
        RuntimeError: an old text is not in the upstream source ``times`` times.
    """
    function: Callable[..., Any] = inspect.unwrap(getattr(owner, method))
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in edits:
        if source.count(old) != times:
            raise RuntimeError(
                f"{owner.__module__}.{owner.__qualname__}.{method} is not the one of RecBole "
                f"{SUPPORTED_RECBOLE}: expected {old!r} {times} times, found it "
                f"{source.count(old)} times."
            )
        source = source.replace(old, new)
    module: ModuleType = sys.modules[owner.__module__]
    scope: dict[str, Any] = {}
    code = compile(source, inspect.getfile(function), "exec")
    exec(code, module.__dict__, scope)  # noqa: S102 - upstream's own text, edited above
    setattr(owner, method, scope[method])


def _repair_data() -> None:
    """Repair RecBole's datasets and interactions for today's numpy and pandas."""
    from recbole.data.dataset.dataset import Dataset
    from recbole.data.dataset.sequential_dataset import SequentialDataset
    from recbole.data.interaction import Interaction

    # pandas 3 ignores a chained fillna(inplace): NaN tokens would become -2^63.
    _rewrite(
        Dataset,
        "_fill_nan",
        (
            "feat[field].fillna(value=0, inplace=True)",
            "feat[field] = feat[field].fillna(value=0)",
        ),
        (
            "feat[field].fillna(value=feat[field].mean(), inplace=True)",
            "feat[field] = feat[field].fillna(value=feat[field].mean())",
        ),
    )
    _rewrite(
        Dataset,
        "_load_feat",
        ('df[field].fillna(value="", inplace=True)', 'df[field] = df[field].fillna(value="")'),
        # The C reader takes a fifth of the time; a separator of several letters needs the other.
        (
            'engine="python",',
            'engine="python" if len(field_separator) > 1 else "c",'
            'float_precision=None if len(field_separator) > 1 else "round_trip",',
        ),
        # Atomic files know no quoting, and names such as NA or null are names. In numbers these
        # words stay missing values.
        (
            "dtype=dtype,",
            "dtype=dtype, quoting=3, keep_default_na=False, na_values={"
            f'name: [""] if kind is str else {list(MISSING_NUMBERS)} '
            "for name, kind in dtype.items()},",
        ),
        ("f.readline()[:-1]", r'f.readline().removesuffix("\n").removeprefix("\ufeff")'),
    )
    # pandas 3: agg(len) is the length of the whole column.
    _rewrite(
        SequentialDataset,
        "_benchmark_presets",
        ("].agg(len)", "].map(len)"),
        # The field is called so only where ITEM_ID_FIELD is item_id.
        ("self.item_id_list_field", 'getattr(self, f"{self.iid_field}_list_field")'),
    )
    _rewrite(Dataset, "_remap", ("feat[field].agg(len)", "feat[field].map(len)"))
    _rewrite(Dataset, "_normalize", ("feat[field].agg(len)", "feat[field].map(len)"))
    # An unstable sort keeps another duplicate, and so gives another split, on another machine.
    _rewrite(
        Dataset,
        "_remove_duplication",
        ("ascending=True, inplace=True", 'ascending=True, inplace=True, kind="stable"'),
    )
    # A descending sort has a negative stride, which torch refuses.
    _rewrite(
        Interaction,
        "sort",
        ('np.argsort(key, kind="stable")', 'np.argsort(np.asarray(key), kind="stable")'),
        ("torch.tensor(np.array(index)[::-1])", "torch.tensor(np.array(index)[::-1].copy())"),
    )


def _repair_reading() -> None:
    """Check atomic files before RecBole reads them, and what it read of them."""
    from recbole.data.dataset.dataset import Dataset

    # It takes index labels for positions, and so drops other rows; those it is meant for, without
    # user or item, are refused below.
    Dataset._filter_nan_user_or_item = lambda self: None
    load = Dataset._load_feat

    def load_checked(self: Any, filepath: str, source: Any) -> Any:
        if self._get_load_and_unload_col(source)[0] == set():
            return None
        path, config = Path(filepath), self.config
        form = config["field_separator"], config["encoding"]
        header = read_header(path, *form)
        n_rows = count_rows(path, len(header), *form)
        if not n_rows:
            raise ValueError(f"{path} holds a header and no row.")
        try:
            feat = load(self, filepath, source)
        except ValueError as error:
            raise ValueError(
                f"{path}: {first_fault(path, header, *form) or str(error).strip()}"
            ) from error
        if feat is not None:
            check_count(path, len(feat), n_rows)
            check_values(path, feat, *_deciding_fields(path, config), encoding=form[1])
            _warn_of_repeats(path, feat, config, self.logger)
        return feat

    Dataset._load_feat = load_checked


def _warn_of_repeats(path: Path, feat: Any, config: Any, logger: Any) -> None:
    """Say how many rows of a ``.user`` or ``.item`` file RecBole leaves out: all but the first."""
    field = {f".{kind}": config[f"{kind.upper()}_ID_FIELD"] for kind in ("user", "item")}.get(
        path.suffix
    )
    if field in feat and (n_repeats := int(feat[field].duplicated().sum())):
        logger.warning(
            f"{path}: {n_repeats:,} rows repeat an earlier {field}; the first row of each counts."
        )


def _deciding_fields(path: Path, config: Any) -> tuple[list[str], list[str]]:
    """Return the fields in which no name, and those in which no number, may be missing."""
    names = ("USER_ID", "ITEM_ID", "HEAD_ENTITY_ID", "TAIL_ENTITY_ID", "RELATION_ID", "ENTITY_ID")
    numbers = [*(config["val_interval"] or {}), *(config["threshold"] or {})]
    if path.suffix == ".inter":
        numbers += [config[f"{name}_FIELD"] for name in ("TIME", "RATING", "LABEL")]
    return [config[f"{name}_FIELD"] for name in names], numbers


def _repair_models() -> None:
    """Repair RecBole's popularity and neighbour models."""
    from recbole.model.general_recommender import asymknn, itemknn
    from recbole.model.general_recommender.pop import Pop

    # An item that a batch holds several times was counted once, and sampled negatives counted too.
    label = 'self.LABEL = config["LABEL_FIELD"]'
    _rewrite(Pop, "__init__", ("self.max_cnt = None", f"self.max_cnt = None; {label}"))
    _rewrite(
        Pop,
        "calculate_loss",
        (
            "item = interaction[self.ITEM_ID]",
            "item = interaction[self.ITEM_ID][interaction[self.LABEL] > 0 "
            "if self.LABEL in interaction else slice(None)]",
        ),
        (
            "self.item_cnt[item, :] = self.item_cnt[item, :] + 1",
            "self.item_cnt.index_add_(0, item, torch.ones_like(item).unsqueeze(1))",
        ),
    )
    # Neighbours of equal weight came in an order that depends on the CPU.
    for knn in (itemknn, asymknn):
        _rewrite(
            knn.ComputeSimilarity,
            "compute_similarity" if knn is itemknn else "compute_asym_similarity",
            (
                "(-this_line_weights).argpartition(self.TopK - 1)[",
                '(-this_line_weights).argsort(kind="stable")[',
            ),
            (
                "-this_line_weights[relevant_partition]\n",
                '-this_line_weights[relevant_partition], kind="stable"\n',
            ),
        )


def _repair_metrics() -> None:
    """Repair RecBole's metrics beyond accuracy."""
    from recbole.evaluator.collector import Collector
    from recbole.evaluator.metrics import ShannonEntropy

    # ItemCoverage and its relatives collect an int or a Counter, which has no .cpu().
    _rewrite(
        Collector,
        "get_data_struct",
        (
            "for key in self.data_struct._data_dict:",
            "for key in [k for k, v in self.data_struct._data_dict.items() if hasattr(v, 'cpu')]:",
        ),
    )
    # Padding is no item: it was counted in the denominators of ItemCoverage and GiniIndex.
    _rewrite(
        Collector,
        "data_collect",
        ("train_data.dataset.num(item_id)", "train_data.dataset.num(item_id) - 1"),
        ("train_data.dataset.num(user_id)", "train_data.dataset.num(user_id) - 1"),
    )
    # The documented formula is the sum of -p log p, not its mean over the recommended items.
    _rewrite(ShannonEntropy, "get_entropy", ("return result / len(item_count)", "return result"))


def _bound_rejections() -> None:
    """Let no sampler of RecBole draw for ever where a user has all items."""
    from recbole.data import transform
    from recbole.sampler import sampler

    pending = "while len(check_list) > 0:"
    bounded = "for _ in bounded_rejections(lambda: len(check_list) > 0):"
    for module in (transform, sampler):
        module.bounded_rejections = bounded_rejections
    _rewrite(sampler.AbstractSampler, "sample_by_key_ids", (pending, bounded), times=2)
    _rewrite(sampler.SeqSampler, "sample_neg_sequence", (pending, bounded))
    _rewrite(
        transform.MaskItemSequence,
        "_neg_sample",
        ("while item in item_set:", "for _ in bounded_rejections(lambda: item in item_set):"),
    )


def _undo_anomaly_detection() -> None:
    """Import RecBole's SINE, which turns on torch's anomaly detection for the whole process.

    Every sequential model pays for it (a third of a training step of SASRec); torch's setting is
    put back to what it was.
    """
    before = torch.is_anomaly_enabled()
    importlib.import_module("recbole.model.sequential_recommender.sine")
    torch.autograd.set_detect_anomaly(before)


_check_recbole()
_restore_numpy_aliases()
_restore_dok_update()
_repair_data()
_repair_reading()
_repair_models()
_repair_metrics()
_bound_rejections()
_undo_anomaly_detection()
