"""Amazon's product data of 2023: all reviews of a category, and metadata as JSON."""

from typing import Any

from recbole_llm.prepare.lines import parse_json
from recbole_llm.prepare.sources.amazon import Amazon, category_option, first, price, text

_MCAULEY = "https://mcauleylab.ucsd.edu/public_datasets/data"
_CATEGORIES = tuple(
    """
    All_Beauty Amazon_Fashion Appliances Arts_Crafts_and_Sewing Automotive Baby_Products
    Beauty_and_Personal_Care Books CDs_and_Vinyl Cell_Phones_and_Accessories
    Clothing_Shoes_and_Jewelry Digital_Music Electronics Gift_Cards Grocery_and_Gourmet_Food
    Handmade_Products Health_and_Household Health_and_Personal_Care Home_and_Kitchen
    Industrial_and_Scientific Kindle_Store Magazine_Subscriptions Movies_and_TV
    Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies Software
    Sports_and_Outdoors Subscription_Boxes Tools_and_Home_Improvement Toys_and_Games Unknown
    Video_Games
    """.split()
)


class Amazon2023(Amazon):
    """The release of 2023: items are parents of variants, time is in milliseconds."""

    key = "amazon2023"
    HELP = "the same of 2023, all reviews"
    categories = _CATEGORIES
    options = (category_option(_CATEGORIES),)
    addresses = {
        "reviews": f"{_MCAULEY}/amazon_2023/raw/review_categories/{{}}.jsonl.gz",
        "metadata": f"{_MCAULEY}/amazon_2023/raw/meta_categories/meta_{{}}.jsonl.gz",
    }

    def review(self, line: bytes) -> tuple[str, str, float, float]:
        """Return user, parent item, rating and Unix seconds."""
        data = parse_json(line)
        return data["user_id"], data["parent_asin"], data["rating"], data["timestamp"] / 1000

    def item(self, line: bytes) -> tuple[Any, ...]:
        """Return the token and the cells."""
        data = parse_json(line)
        image = first(data.get("images")) or {}
        return (
            data["parent_asin"],
            text(data.get("title")),
            text(data.get("store")),
            [text(name) for name in data.get("categories") or []],
            text(data.get("description")),
            price(data.get("price")),
            image.get("hi_res") or image.get("large"),
        )
