"""Everything RecBole 1.2.1 needs on today's numpy, pandas and scipy, in one place.

Importing this module applies the repairs once. Each one replaces a piece of upstream text that is
checked to be there first, so another RecBole release fails loudly here and not silently later.
``recbole.quick_start`` (and with it ray) is never imported.
"""

import importlib
import importlib.metadata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse
import torch

from recbole_llm.compat_reading import repair_reading
from recbole_llm.processes import is_main
from recbole_llm.rewriting import SUPPORTED_RECBOLE, rewrite
from recbole_llm.tables import MISSING_NUMBERS


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
        f"(almost) every item that can be drawn, or an item with every user. Drop such users or "
        f"items, for example by --user_inter_num_interval, or choose a model that needs no "
        f"negative items."
    )


def _repair_data() -> None:
    """Repair what RecBole reads from files, for today's pandas too."""
    from recbole.data.dataset.dataset import Dataset
    from recbole.data.dataset.sequential_dataset import SequentialDataset

    # pandas 3 ignores a chained fillna(inplace): NaN tokens would become -2^63.
    rewrite(
        Dataset,
        "_fill_nan",
        ("feat[field].fillna(value=0, inplace=True)", "feat[field] = feat[field].fillna(value=0)"),
        (
            "feat[field].fillna(value=feat[field].mean(), inplace=True)",
            "feat[field] = feat[field].fillna(value=feat[field].mean())",
        ),
    )
    rewrite(
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
    rewrite(
        SequentialDataset,
        "_benchmark_presets",
        ("].agg(len)", "].map(len)"),
        # The field is called so only where ITEM_ID_FIELD is item_id.
        ("self.item_id_list_field", 'getattr(self, f"{self.iid_field}_list_field")'),
    )
    for method in ("_remap", "_normalize"):
        rewrite(Dataset, method, ("feat[field].agg(len)", "feat[field].map(len)"))


def _repair_rows() -> None:
    """Repair which rows RecBole keeps, how it splits them, and in which order."""
    from recbole.data.dataset.dataset import Dataset
    from recbole.data.interaction import Interaction

    # An unstable sort keeps another duplicate, and so gives another split, on another machine.
    rewrite(
        Dataset,
        "_remove_duplication",
        ("ascending=True, inplace=True", 'ascending=True, inplace=True, kind="stable"'),
    )
    # float32 holds Unix seconds to two minutes: what is closer tied, and kept the file's order.
    rewrite(
        Dataset,
        "_dataframe_to_interaction",
        (
            "torch.FloatTensor(value)\n",
            "torch.as_tensor(value, dtype=torch.float64 if k == self.time_field else "
            "torch.float32)\n",
        ),
    )
    # The sorted rows' parts were given to the unsorted rows.
    rewrite(
        Dataset,
        "time_based_split",
        (
            "grouped_index = np.array(grouped_index)\n",
            "grouped_index = np.array(grouped_index)\n"
            "        time = self.inter_feat[self.time_field].numpy()[grouped_index]\n"
            "        grouped_index = grouped_index[np.argsort(time, kind='stable')]\n",
        ),
    )
    # A descending sort has a negative stride, which torch refuses.
    rewrite(
        Interaction,
        "sort",
        ('np.argsort(key, kind="stable")', 'np.argsort(np.asarray(key), kind="stable")'),
        ("torch.tensor(np.array(index)[::-1])", "torch.tensor(np.array(index)[::-1].copy())"),
    )


def _repair_models() -> None:
    """Repair RecBole's popularity and neighbour models, BERT4Rec, and what a model saves."""
    from recbole.model.abstract_recommender import AbstractRecommender
    from recbole.model.general_recommender import asymknn, itemknn
    from recbole.model.general_recommender.pop import Pop
    from recbole.model.sequential_recommender.bert4rec import BERT4Rec

    # Five models save a layer a second time, which the state_dict has.
    rewrite(
        AbstractRecommender,
        "other_parameter",
        ("other_parameter_name}", "other_parameter_name if key not in self._modules}"),
    )
    # Position 0 is a position, and not padding: a masked first item was never learned from.
    rewrite(BERT4Rec, "calculate_loss", ("(masked_index > 0)", "(pos_items > 0)"), times=2)

    # An item that a batch holds several times was counted once, and sampled negatives counted too.
    label = 'self.LABEL = config["LABEL_FIELD"]'
    rewrite(Pop, "__init__", ("self.max_cnt = None", f"self.max_cnt = None; {label}"))
    rewrite(
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
        rewrite(
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
    from recbole.evaluator import collector
    from recbole.evaluator.collector import Collector
    from recbole.evaluator.metrics import ShannonEntropy, TailPercentage

    collector.count_items = count_items

    # ItemCoverage and its relatives collect an int or a Counter, which has no .cpu().
    rewrite(
        Collector,
        "get_data_struct",
        (
            "for key in self.data_struct._data_dict:",
            "for key in [k for k, v in self.data_struct._data_dict.items() if hasattr(v, 'cpu')]:",
        ),
    )
    # Padding is no item: it was counted in the denominators of ItemCoverage and GiniIndex.
    # A sequential data set's rows leave out each user's first item, and a knowledge-aware loader
    # has its data set under one name only.
    rewrite(
        Collector,
        "data_collect",
        ("train_data.dataset.num(item_id)", "train_data._dataset.num(item_id) - 1"),
        ("train_data.dataset.num(user_id)", "train_data._dataset.num(user_id) - 1"),
        ("train_data.dataset.item_counter", "count_items(train_data._dataset)"),
        ("train_data.dataset.user_counter", "train_data._dataset.user_counter"),
    )
    # A list is searched for every recommended item.
    rewrite(
        TailPercentage,
        "get_tail",
        ("value = np.zeros_like", "tail_items = set(tail_items); value = np.zeros_like"),
    )
    # The documented formula is the sum of -p log p, not its mean over the recommended items.
    rewrite(ShannonEntropy, "get_entropy", ("return result / len(item_count)", "return result"))


def count_items(dataset: Any) -> Counter[int]:
    """Count each item's interactions in a part of RecBole's, each user's first one included."""
    return Counter(dataset.inter_matrix(form="coo").col.tolist())


def _repair_samplers() -> None:
    """Repair the popularity that RecBole draws items by, and its dynamic negative sampling."""
    from recbole.data.dataloader.abstract_dataloader import NegSampleDataLoader
    from recbole.sampler.sampler import AbstractSampler, Sampler

    # Validation and test interactions told the training which items are popular.
    rewrite(
        Sampler,
        "_get_candidates_list",
        ("for dataset in self.datasets:", "for dataset in self.datasets[:1]:"),
    )
    # What rounding leaves of an item's share was drawn as item -1.
    rewrite(
        AbstractSampler,
        "_build_alias_table",
        (
            "elif self.prob[l] > 1:\n            large_q.append(l)\n",
            "elif self.prob[l] > 1:\n            large_q.append(l)\n"
            "    for i in large_q + small_q:\n        self.prob[i] = 1\n",
        ),
    )
    # Candidates were scored with the features of the positive item.
    rewrite(
        NegSampleDataLoader,
        "_neg_sampling",
        (
            "interaction.update(neg_item_feat)",
            "interaction.update(self._dataset.join(Interaction({self.iid_field: "
            "neg_candidate_ids})).to(self.model.device))",
        ),
    )


def _bound_rejections() -> None:
    """Let no sampler of RecBole draw for ever where a user has all items."""
    from recbole.data import transform
    from recbole.model.general_recommender import line
    from recbole.model.sequential_recommender import s3rec
    from recbole.sampler import sampler

    pending = "while len(check_list) > 0:"
    bounded = "for _ in bounded_rejections(lambda: len(check_list) > 0):"
    for module in (transform, sampler, line, s3rec):
        module.bounded_rejections = bounded_rejections
    rewrite(sampler.AbstractSampler, "sample_by_key_ids", (pending, bounded), times=2)
    rewrite(sampler.SeqSampler, "sample_neg_sequence", (pending, bounded))
    rewrite(line.LINE, "sampler", (pending, bounded))
    # A short sequence has room for one mask at least.
    rewrite(
        transform.MaskItemSequence,
        "__init__",
        (
            "int(self.mask_ratio * self.max_seq_length)",
            "max(1, int(self.mask_ratio * self.max_seq_length))",
        ),
    )
    for owner in (transform.MaskItemSequence, s3rec.S3Rec):
        rewrite(
            owner,
            "_neg_sample",
            ("while item in item_set:", "for _ in bounded_rejections(lambda: item in item_set):"),
        )


def _write_tensorboard_once() -> None:
    """Let the main one of several processes alone write the files of TensorBoard."""
    trainer: Any = importlib.import_module("recbole.trainer.trainer")
    writer, silent = trainer.get_tensorboard, type("_Silent", (), {"add_scalar": lambda *_: None})
    trainer.get_tensorboard = lambda logger: writer(logger) if is_main() else silent()


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
_undo_anomaly_detection()
_repair_data()
_repair_rows()
repair_reading()
_repair_models()
_repair_metrics()
_repair_samplers()
_bound_rejections()
_write_tensorboard_once()
