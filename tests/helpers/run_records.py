"""Run records written by hand, as a sweep of the spec ``t`` leaves them."""

import json
from pathlib import Path
from typing import Any

from recbole_llm.record import RunRecord

SPEC: dict[str, Any] = {
    "name": "t",
    "title": "A_title & 100 %",
    "datasets": ["beauty"],
    "protocol": "loo",
    "rows": [
        {"label": "LightGCN", "model": "LightGCN"},
        {"label": "BPR", "model": "BPR"},
        {"label": "Ours", "model": "SRGFormer"},
    ],
    "compare": "Ours",
    "seeds": [1, 2],
}
METRICS = ["recall@10", "recall@20"]
ITEMS = [f"i{n}" for n in range(20)]


def add(
    row: str,
    seed: int,
    values: list[float] | None = None,
    *,
    hits: list[list[int]] | None = None,
    leaky: bool = False,
    point: dict[str, Any] | None = None,
    **over: Any,
) -> RunRecord:
    """Write the record of a final run of ``row``.

    Args:
        row: label of the row.
        seed: seed of the run.
        values: its metrics; None: those of ``hits``.
        hits: ranks of each user's one positive, of the 20 that are kept.
        leaky: whether the profiles of its users were written from held-out interactions.
        point: point of the grid.
        over: attributes of the record.
    """
    if values is None:
        values = [sum(any(r < k for r in ranks) for ranks in hits) / len(hits) for k in (10, 20)]
    model = over.pop("model", {"Ours": "SRGFormer"}.get(row, row))
    run_id = f"20260101-0000{seed:02}-{len(list(Path('runs').glob('*'))):03}-{model}-beauty-0"
    record = RunRecord(
        run_id, model, "beauty", "loo", seed, {"seed": seed, "model": model}, "h", f"runs/{run_id}"
    )
    record.status, record.started = "finished", f"2026-01-01T00:00:0{seed}"
    record.metrics = {part: dict(zip(METRICS, values, strict=True)) for part in ("valid", "test")}
    record.data = {"files": {"a": "1"}, "split": "s"}
    if leaky:
        record.data["user_profiles"] = {"p": {"leaky": True}}
    record.environment = {"git_commit": "c", "device": "cpu"}
    record.origin = {
        "sweep": "t",
        "profile": "paper",
        "row": row,
        "kind": "final",
        "point": point or {},
        "budget": {"n_trials": 4, "sampler": "tpe"},
    }
    for key, value in over.items():
        setattr(record, key, value)
    record.save()
    if hits is not None:
        lines = [
            json.dumps({"user": str(u), "items": ITEMS, "hits": ranks, "n_positives": 1})
            for u, ranks in enumerate(hits)
        ]
        (Path(record.folder) / "topk-test.jsonl").write_text("\n".join(lines))
    return record
