"""What differs between the runs of a report and should be shared, as notes for the reader."""

import json
from collections.abc import Iterable, Sequence

from recbole_llm.report.records import Run


def dataset_notes(dataset: str, runs: Sequence[Run]) -> list[str]:
    """Name the frozen splits of a dataset's runs, and what differs but should be shared."""
    notes = []
    for name, values in (
        ("data files", {json.dumps(run.record.data.get("files")) for run in runs}),
        ("protocol", {run.record.protocol for run in runs}),
        ("whether histories are hidden", {run.record.config.get("mask_history") for run in runs}),
        ("code version", {str(run.record.environment.get("git_commit")) for run in runs}),
    ):
        if len(values) > 1:
            notes.append(f"{dataset}: the rows differ in {name} ({len(values)} of them).")
    frozen = [run.record.data["frozen_split"] for run in runs if "frozen_split" in run.record.data]
    keys = {(split["name"], split["protocol"], split["sha256"]) for split in frozen}
    for name, protocol, sha256 in sorted(keys):
        notes.append(f"{dataset}: frozen split {name} ({protocol}), sha256 {sha256[:12]}.")
    by_seed: dict[int, set[str]] = {}
    for run in runs:
        data = run.record.data
        digest = data.get("frozen_split", {}).get("sha256") or data.get("split")
        by_seed.setdefault(run.record.seed, set()).add(str(digest))
    if any(len(digests) > 1 for digests in by_seed.values()):
        notes.append(f"{dataset}: rows of the same seed were split differently.")
    return notes


def environment_notes(runs: Sequence[Run]) -> list[str]:
    """Name the runs of code that was not committed, and the libraries whose versions differ."""
    notes = []
    changed = [run for run in runs if str(run.record.environment.get("git_commit")).endswith("+")]
    if changed:
        notes.append(
            f"{len(changed)} of {len(runs)} runs had changes in the code that were not committed "
            f"(git_commit ends with +), so their code cannot be looked up: "
            f"{shortened(run.record.id for run in changed)}."
        )
    # Records of a version that did not keep the versions of libraries say nothing.
    versions = [found for run in runs if (found := run.record.environment.get("versions"))]
    differing = []
    for name in dict.fromkeys(name for found in versions for name in found):
        values = sorted({found.get(name, "none") for found in versions})
        if len(values) > 1:
            differing.append(f"{name} ({', '.join(values)})")
    if differing:
        notes.append(f"The runs differ in versions of libraries: {'; '.join(differing)}.")
    return notes


def shortened(names: Iterable[str], n: int = 4) -> str:
    """Return the first names, and how many more there are."""
    known = list(dict.fromkeys(names))
    more = f" and {len(known) - n} more" if len(known) > n else ""
    return ", ".join(known[:n]) + more
