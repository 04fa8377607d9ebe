"""The Yelp Open Dataset, which a person must fetch: its licence is accepted in a form."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from recbole_llm.net.download import Fetched, RawFile
from recbole_llm.prepare.addresses import YELP_PAGE
from recbole_llm.prepare.interactions import InteractionLog
from recbole_llm.prepare.lines import LineCount, find_member, for_each_line, parse_json
from recbole_llm.prepare.sources.base import Filters, ItemWriter, Source

_MEMBERS = {
    "reviews": "yelp_academic_dataset_review.json",
    "metadata": "yelp_academic_dataset_business.json",
}


class Yelp(Source):
    """Reviews of 2019, repeats kept, as S3-Rec and after it GAL-Rec have them."""

    key: ClassVar[str] = "yelp"
    item_columns = {
        "title": "token_seq",
        "categories": "token_seq",
        "city": "token",
        "state": "token",
    }
    text_columns = ("title", "categories", "city")
    filters = Filters(k_core=5, duplicates="all", since="2019-01-01", until="2019-12-31")

    def raw_files(self, folder: Path) -> list[RawFile]:
        """Return the two JSON files if they are there, else the archive."""
        if all((folder / name).exists() for name in _MEMBERS.values()):
            return [RawFile(role, YELP_PAGE, name, True) for role, name in _MEMBERS.items()]
        return [RawFile("archive", YELP_PAGE, "yelp_dataset.tar", True)]

    def read_interactions(
        self, files: Mapping[str, Fetched], log: InteractionLog
    ) -> dict[str, LineCount]:
        """Read the reviews; dates are taken as UTC."""

        def use(line: bytes) -> None:
            data = parse_json(line)
            time = datetime.fromisoformat(data["date"]).replace(tzinfo=UTC).timestamp()
            log.add(data["user_id"], data["business_id"], data["stars"], time)

        return self._read("reviews", files, use)

    def read_items(
        self, files: Mapping[str, Fetched], wanted: Mapping[str, int], write: ItemWriter
    ) -> dict[str, LineCount]:
        """Read the businesses."""

        def use(line: bytes) -> None:
            data = parse_json(line)
            if data["business_id"] in wanted:
                categories = [name.strip() for name in (data.get("categories") or "").split(",")]
                write(
                    data["business_id"],
                    data.get("name"),
                    categories,
                    data.get("city"),
                    data.get("state"),
                )

        return self._read("metadata", files, use)

    def _read(self, role: str, files: Mapping[str, Fetched], use: Any) -> dict[str, LineCount]:
        if role in files:
            return {files[role].path.name: for_each_line(files[role].path, use)}
        archive = files["archive"].path
        member = find_member(archive, _MEMBERS[role])
        return {_MEMBERS[role]: for_each_line(archive, use, member)}
