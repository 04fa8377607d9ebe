"""The Yelp Open Dataset, which a person must fetch: its licence is accepted in a form."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recbole_llm.prepare.filters import Filters
from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount, find_member, for_each_line, parse_json
from recbole_llm.prepare.markup import plain_text
from recbole_llm.prepare.raw_files import Fetched, RawFile
from recbole_llm.prepare.sources.base import ItemWriter, Size, Source

#: Page with the form in which the licence is accepted.
_PAGE = "https://business.yelp.com/data/resources/open-dataset/"
_MEMBERS = {
    "reviews": "yelp_academic_dataset_review.json",
    "metadata": "yelp_academic_dataset_business.json",
}


class Yelp(Source):
    """Reviews of 2019, repeats kept, as in S3-Rec and GAL-Rec."""

    key = "yelp"
    HELP = "Yelp Open Dataset, fetched by hand"
    published = {
        "yelp": (
            Size(
                "GAL-Rec, Table II",
                30_431,
                20_033,
                316_354,
                note="the paper's is Yelp's release of 2020; each release since has other reviews",
            ),
        )
    }
    item_columns = {
        "title": "token_seq",
        "categories": "token_seq",
        "city": "token",
        "state": "token",
    }
    text_columns = ("title", "categories", "city")
    filters = Filters(k_core=5, duplicates="all", since="2019-01-01", until="2019-12-31")

    def raw_files(self, folder: Path) -> list[RawFile]:
        """Return the two JSON files if they exist, else the archive."""
        if all((folder / name).exists() for name in _MEMBERS.values()):
            return [RawFile(role, _PAGE, name, True) for role, name in _MEMBERS.items()]
        return [RawFile("archive", _PAGE, "yelp_dataset.tar", True)]

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Read the reviews; dates are taken as UTC."""

        def read(line: bytes) -> None:
            data = parse_json(line)
            time = datetime.fromisoformat(data["date"]).replace(tzinfo=UTC).timestamp()
            log.add(data["user_id"], data["business_id"], data["stars"], time)

        return self._read("reviews", files, read)

    def read_items(
        self, files: Mapping[str, Fetched], codes: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Read the businesses."""

        def read(line: bytes) -> None:
            data = parse_json(line)
            if data["business_id"] in codes:
                names = plain_text(data.get("categories") or "").split(",")
                categories = [name.strip() for name in names]
                write(
                    data["business_id"],
                    plain_text(data.get("name") or ""),
                    categories,
                    data.get("city"),
                    data.get("state"),
                )

        return self._read("metadata", files, read)

    def _read(self, role: str, files: Mapping[str, Fetched], read: Any) -> dict[str, LineCount]:
        if role in files:
            return {files[role].path.name: for_each_line(files[role].path, read)}
        archive = files["archive"].path
        member = find_member(archive, _MEMBERS[role])
        return {_MEMBERS[role]: for_each_line(archive, read, member)}
