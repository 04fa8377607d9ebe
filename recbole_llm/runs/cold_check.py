"""Metrics of cold users and items, recomputed from the lists where those decide them."""

import math
from collections.abc import Iterator, Mapping

from recbole_llm.record import RunRecord
from recbole_llm.runs.catalogue import Catalogue
from recbole_llm.runs.evaluated import Evaluated, known_items, part_pairs
from recbole_llm.runs.list_metrics import Lists
from recbole_llm.runs.metrics import recompute
from recbole_llm.runs.rounding import Rounding

_WARM = ("warm_users", "warm_items")
_GROUPS = ("cold_users", "cold_items", "cold_items_only", *_WARM)


def compare_cold(
    record: RunRecord,
    evaluated: Evaluated,
    catalogue: Catalogue,
    unchecked: list[str],
) -> Iterator[tuple[str, bool]]:
    """Compare the recorded metrics of cold users and items with the lists.

    ``cold_items_only`` ranks cold items among themselves, which the lists of all items do not
    show: its sizes alone are compared.

    Args:
        record: record of the run.
        evaluated: a part and its lists.
        catalogue: items of the dataset.
        unchecked: list of what cannot be compared, which is added to.

    Yields:
        A text for each group, and whether the record has it so.
    """
    part = evaluated.part
    if part not in record.metrics_cold:
        unchecked.append(f"{part} metrics of cold users and items, which the record lacks")
        return
    recorded = record.metrics_cold[part]
    for name in sorted(recorded.keys() - set(_GROUPS)):
        yield f"{part} {name}: not a group of cold users or items  DIFFERS", False
    groups, rounding = _cold_pairs(evaluated), Rounding(record.config)
    for name in _GROUPS:
        pairs = groups[name.removesuffix("_only")]
        expected: dict[str, float] = {}
        if pairs and name in _WARM and name not in recorded:
            unchecked.append(f"{part} metrics of {name}, which the record lacks")
        elif pairs:
            counts = {"n_interactions": len(pairs), "n_users": len({user for _, user, _ in pairs})}
            hides = name not in _WARM and bool(record.config.get("mask_history", True))
            metrics = (
                None
                if name == "cold_items_only"
                else _metrics(record, evaluated, pairs, catalogue, hides)
            )
            if metrics is None:
                unchecked.append(f"{part} metrics of {name}, which the lists do not show")
            expected = {**counts, **(metrics or {})}
        if expected or name in recorded:
            yield _compared(f"{part} {name}", recorded.get(name, {}), expected, rounding)


def _compared(
    name: str, recorded: Mapping[str, float], expected: Mapping[str, float], rounding: Rounding
) -> tuple[str, bool]:
    differing = [
        key
        for key, value in expected.items()
        if not rounding.same(recorded.get(key, math.inf), value)
    ]
    if not expected:
        return f"{name}: the data has no such group  DIFFERS", False
    if differing:
        first = differing[0]
        text = f"{name} {first}: recorded {recorded.get(first)}, here {expected[first]:.6f}"
        return f"{text}; {len(differing)} values of the group  DIFFER", False
    return f"{name}: {len(expected)} values as recorded", True


def _cold_pairs(evaluated: Evaluated) -> dict[str, list[tuple[int, str, str]]]:
    """Return the rows of a part by group: (row, user, item); the warm ones where some are cold."""
    trained = known_items(evaluated.history[:1])
    warm = set().union(*trained.values())
    users, items = part_pairs(evaluated.dataset)
    rows = list(zip(range(len(users)), users, items, strict=True))
    groups = {
        "cold_users": [row for row in rows if row[1] not in trained],
        "cold_items": [row for row in rows if row[2] not in warm],
    }
    for name, rest in (
        ("users", [row for row in rows if row[1] in trained]),
        ("items", [row for row in rows if row[2] in warm]),
    ):
        groups[f"warm_{name}"] = rest if groups[f"cold_{name}"] else []
    return groups


def _metrics(
    record: RunRecord,
    evaluated: Evaluated,
    pairs: list[tuple[int, str, str]],
    catalogue: Catalogue,
    hides_known: bool,
) -> dict[str, float] | None:
    """Return the metrics of some rows, or None where the lists would be others for them alone."""
    if evaluated.is_sequential:
        items = [evaluated.lists[row] for row, _, _ in pairs]
        users = [user for _, user, _ in pairs]
        positives = [{item} for _, _, item in pairs]
    else:
        items_of: dict[str, set[str]] = {}
        for _, user, item in pairs:
            items_of.setdefault(user, set()).add(item)
        chosen = [ranking for ranking in evaluated.rankings if ranking.user in items_of]
        items = [ranking.items for ranking in chosen]
        users = [ranking.user for ranking in chosen]
        positives = [items_of[ranking.user] for ranking in chosen]
        if hides_known:
            known = known_items(evaluated.history)
            for ranking, held in zip(chosen, positives, strict=True):
                # a known item that the part holds as well is hidden where it is not measured
                if (set(ranking.items) & known.get(ranking.user, set())) - held:
                    return None
    lists = Lists(items, users, positives)
    found = {name: recompute(name, lists, catalogue) for name in record.metrics[evaluated.part]}
    return {name: value for name, value in found.items() if value is not None}
