"""Amazon's product data of 2018: 5-core reviews of a category, and metadata as JSON."""

from typing import Any

from recbole_llm.prepare.lines import parse_json
from recbole_llm.prepare.sources.amazon import Amazon, category_option, first, price, text

_MCAULEY = "https://mcauleylab.ucsd.edu/public_datasets/data"
_CATEGORIES = tuple(
    """
    AMAZON_FASHION All_Beauty Appliances Arts_Crafts_and_Sewing Automotive Books CDs_and_Vinyl
    Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics Gift_Cards
    Grocery_and_Gourmet_Food Home_and_Kitchen Industrial_and_Scientific Kindle_Store
    Luxury_Beauty Magazine_Subscriptions Movies_and_TV Musical_Instruments Office_Products
    Patio_Lawn_and_Garden Pet_Supplies Prime_Pantry Software Sports_and_Outdoors
    Tools_and_Home_Improvement Toys_and_Games Video_Games
    """.split()
)


class Amazon2018(Amazon):
    """The release of 2018."""

    key = "amazon2018"
    HELP = "the same of 2018"
    categories = _CATEGORIES
    options = (category_option(_CATEGORIES),)
    addresses = {
        "reviews": f"{_MCAULEY}/amazon_v2/categoryFilesSmall/{{}}_5.json.gz",
        "metadata": f"{_MCAULEY}/amazon_v2/metaFiles2/meta_{{}}.json.gz",
    }

    def item(self, line: bytes) -> tuple[Any, ...]:
        """Return the token and the cells."""
        data = parse_json(line)
        images = data.get("imageURLHighRes") or data.get("imageURL")
        return (
            data["asin"],
            text(data.get("title")),
            text(data.get("brand")),
            [text(name) for name in data.get("category") or []],
            text(data.get("description")),
            price(data.get("price")),
            first(images),
        )
