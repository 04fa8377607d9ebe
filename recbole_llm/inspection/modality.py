"""Checks of items' features and texts: items without content, and content that is the same."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm.data.atomic import read_header, read_item_columns
from recbole_llm.data.items import Items
from recbole_llm.data.modality import load_modality
from recbole_llm.inspection.finding import SHOWN, Finding
from recbole_llm.inspection.view import View

# Mean cosine of two random items from which features are said to have a common part.
_MAX_COSINE = 0.5


def inspect_modalities(view: View) -> tuple[dict[str, dict[str, Any]], list[Finding]]:
    """Describe each modality of the settings, before ``missing_modality`` and scaling.

    A text modality is not encoded: only the columns of its texts are checked. A file that cannot
    be read is a finding.

    Returns:
        Coverage, width, dtype, norms, duplicates and mean cosine of each modality; and the
        findings.
    """
    items = Items(view.config, view.dataset.field2id_token[view.dataset.iid_field])
    specs = view.config["modalities"] or {}
    described: dict[str, dict[str, Any]] = {}
    findings = list(_texts(view, items, specs))
    for name, spec in specs.items():
        if isinstance(spec, Mapping) and "text" in spec:
            continue
        try:
            feature = load_modality(name, spec, items)[1:]
        except (OSError, ValueError) as error:
            advice = "add or repair the file, or leave the modality out of `modalities`"
            findings.append(Finding("unreadable_modality", str(error), 1, [], advice))
            continue
        described[name] = _describe(feature, spec, items)
        findings += _feature_findings(name, spec, feature, described[name], items)
    return described, findings


def _describe(feature: NDArray[np.float32], spec: object, items: Items) -> dict[str, Any]:
    has_row = feature.any(axis=1)
    present = feature[has_row]
    norm = np.linalg.norm(present, axis=1)
    content: dict[str, Any] = {
        "n_with": int(has_row.sum()),
        "n_without": int((~has_row).sum()),
        "width": feature.shape[1],
        "dtype": _dtype(spec, items),
        "n_duplicates": len(present) - len(np.unique(present, axis=0)),
        "n_constant_columns": int((np.ptp(feature, axis=0) == 0).sum()),
        "all_nonnegative": bool((feature >= 0).all()),
    }
    if len(present) > 1:
        mean = (present / norm[:, None]).mean(axis=0, dtype=np.float64)
        n = len(present)
        # |sum of unit rows|^2 counts each pair twice and each row once.
        content["mean_cosine"] = float((n * (mean @ mean) - 1) / (n - 1))
        content["norm"] = [float(norm.min()), float(np.median(norm)), float(norm.max())]
    return content


def _dtype(spec: object, items: Items) -> str:
    name = spec.get("file") if isinstance(spec, Mapping) else spec
    if not name:
        return "float32"
    return str(np.load(items.folder / str(name), mmap_mode="r", allow_pickle=False).dtype)


def _feature_findings(
    name: str,
    spec: object,
    feature: NDArray[np.float32],
    description: Mapping[str, Any],
    items: Items,
) -> Iterator[Finding]:
    missing = np.flatnonzero(~feature.any(axis=1)) + 1
    if len(missing):
        yield Finding(
            "items_without_feature",
            f"modality {name!r}: {len(missing):,} of {len(feature):,} items have no feature",
            len(missing),
            [str(items.tokens[i]) for i in missing[:SHOWN]],
            "choose what a model gets for them: --missing_modality (zero, mean, error)",
        )
    is_file = not isinstance(spec, Mapping) or "file" in spec
    if is_file and description["n_duplicates"]:
        yield Finding(
            "duplicate_features",
            f"modality {name!r}: {description['n_duplicates']:,} items have the same feature "
            f"as another item",
            description["n_duplicates"],
            [],
            "look for a default picture or an empty text: no model can tell these items apart by "
            "their content",
        )
    if is_file and description.get("mean_cosine", 0) >= _MAX_COSINE:
        sign = ", and no value is negative" if description["all_nonnegative"] else ""
        yield Finding(
            "common_part",
            f"modality {name!r}: the cosine of two items is {description['mean_cosine']:.2f} on "
            f"average{sign}",
            len(feature),
            [],
            "set --modality_scaling=standard, which removes the part that all items share",
        )


def _texts(view: View, items: Items, specs: Mapping[str, Any]) -> Iterator[Finding]:
    path = items.item_file
    if not path.is_file():
        return
    header = read_header(path, view.config)
    of_modalities = [
        column
        for spec in specs.values()
        if isinstance(spec, Mapping) and "text" in spec
        for column in np.atleast_1d(spec["text"]).tolist()
    ]
    columns = list(dict.fromkeys(of_modalities)) or [
        k for k, v in header.items() if v == "token_seq"
    ]
    columns = [column for column in columns if column in header]
    if not columns:
        return
    texts = read_item_columns(path, columns, view.config)
    tokens = [str(token) for token in items.tokens[1:]]
    # An item without a row has no text.
    filled = texts.reindex(tokens, fill_value="").apply(lambda column: column.str.strip() != "")
    empty = np.flatnonzero(~filled.any(axis=1).to_numpy())
    if len(empty):
        yield Finding(
            "empty_texts",
            f"{len(empty):,} of {len(tokens):,} items have no text in {', '.join(columns)}",
            len(empty),
            [tokens[i] for i in empty[:SHOWN]],
            "fill the cells, or choose what a text modality has for them: --missing_modality",
        )
