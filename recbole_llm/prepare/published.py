"""The sizes that papers and publishers give for what ``prepare`` builds."""

from typing import NamedTuple

_HELLM = "HeLLM, Table I"
_MLLMREC = "MLLMRec, Table 1"
_GALREC = "GAL-Rec, Table II"
_GROUPLENS = "GroupLens"
_LESS_ONE = "the paper counts one interaction a user fewer than the data has"
_YELP_2020 = "the paper's is Yelp's release of 2020; each release since has other reviews"


class Size(NamedTuple):
    """Users, items and interactions as published, and what is known of a difference."""

    where: str
    users: int
    items: int
    interactions: int
    note: str = ""


#: Source and default name of the dataset: the sizes published for it.
SIZES = {
    ("amazon2014", "baby"): [Size(_MLLMREC, 19_445, 7_050, 160_792)],
    ("amazon2014", "sports"): [
        Size(_HELLM, 35_598, 18_357, 260_739, _LESS_ONE),
        Size(_MLLMREC, 35_598, 18_357, 296_337),
    ],
    ("amazon2014", "clothing"): [Size(_MLLMREC, 39_387, 23_033, 278_677)],
    ("amazon2014", "beauty"): [
        Size(_HELLM, 22_363, 12_101, 176_139, _LESS_ONE),
        Size(_GALREC, 22_363, 12_101, 198_502),
    ],
    ("amazon2014", "toys"): [
        Size(_HELLM, 19_412, 11_924, 148_185, _LESS_ONE),
        Size(_GALREC, 19_412, 11_924, 167_597),
    ],
    ("yelp", "yelp"): [Size(_GALREC, 30_431, 20_033, 316_354, _YELP_2020)],
    ("mmrec", "baby"): [Size(_MLLMREC, 19_445, 7_050, 160_792)],
    ("mmrec", "sports"): [Size(_MLLMREC, 35_598, 18_357, 296_337)],
    ("mmrec", "clothing"): [Size(_MLLMREC, 39_387, 23_033, 278_677)],
    ("movielens", "ml-100k"): [Size(_GROUPLENS, 943, 1_682, 100_000)],
    ("movielens", "ml-1m"): [Size(_GROUPLENS, 6_040, 3_706, 1_000_209)],
    ("movielens", "ml-20m"): [Size(_GROUPLENS, 138_493, 26_744, 20_000_263)],
}


def comparison(source: str, dataset: str, users: int, items: int, interactions: int) -> list[str]:
    """Return the published sizes of a dataset, each with every difference from what was built.

    Args:
        source: key of the source.
        dataset: its default name for the dataset.
        users: of what was built.
        items: of what was built.
        interactions: of what was built.
    """
    lines = []
    for size in SIZES.get((source, dataset), []):
        lines.append(
            f"published ({size.where}): {size.users:,} users, {size.items:,} items, "
            f"{size.interactions:,} interactions"
        )
        built = {"users": users, "items": items, "interactions": interactions}
        gaps = {name: built[name] - getattr(size, name) for name in built}
        named = ", ".join(f"{gap:+,} {name}" for name, gap in gaps.items() if gap)
        if not named:
            lines.append("  the same here")
            continue
        less_one = size.note == _LESS_ONE and list(gaps.values()) == [0, 0, users]
        known = size.note if less_one or size.note == _YELP_2020 else ""
        lines.append(f"  here: {named}" + (f": {known}" if known else ""))
    return lines
