"""Where raw files come from: the sources' official addresses, and nowhere else."""

from recbole_llm.net.download import RawFile

_SNAP = "https://snap.stanford.edu/data/amazon/productGraph"
_MCAULEY = "https://mcauleylab.ucsd.edu/public_datasets/data"
_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_WESTLAKE = "https://recsys.westlake.edu.cn/MicroLens-100k-Dataset"
_EXTRACTED = f"{_WESTLAKE}/extracted_modality_features/MicroLens-100k"

#: Yelp's licence is accepted in a form on this page.
YELP_PAGE = "https://business.yelp.com/data/resources/open-dataset/"

#: Source: role of a raw file: its address; ``{}`` stands for the category or the size.
ADDRESSES = {
    "amazon2014": {
        "reviews": f"{_SNAP}/categoryFiles/reviews_{{}}_5.json.gz",
        "metadata": f"{_SNAP}/categoryFiles/meta_{{}}.json.gz",
        "image": f"{_SNAP}/image_features/categoryFiles/image_features_{{}}.b",
    },
    "amazon2018": {
        "reviews": f"{_MCAULEY}/amazon_v2/categoryFilesSmall/{{}}_5.json.gz",
        "metadata": f"{_MCAULEY}/amazon_v2/metaFiles2/meta_{{}}.json.gz",
    },
    "amazon2023": {
        "reviews": f"{_MCAULEY}/amazon_2023/raw/review_categories/{{}}.jsonl.gz",
        "metadata": f"{_MCAULEY}/amazon_2023/raw/meta_categories/meta_{{}}.jsonl.gz",
    },
    "movielens": {"archive": f"{_GROUPLENS}/ml-{{}}.zip"},
    "microlens": {
        "pairs": f"{_WESTLAKE}/MicroLens-100k_pairs.csv",
        "titles": f"{_WESTLAKE}/MicroLens-100k_title_en.csv",
        "image": f"{_EXTRACTED}_image_features_CLIPRN50.npy",
        "text": f"{_EXTRACTED}_title_en_text_features_BgeM3.npy",
        "video": f"{_EXTRACTED}_video_features_VideoMAE.npy",
    },
}

#: Source: what `--category` or `--size` may be.
VARIANTS = {
    "amazon2014": """Amazon_Instant_Video Apps_for_Android Automotive Baby Beauty Books
        CDs_and_Vinyl Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music
        Electronics Grocery_and_Gourmet_Food Health_and_Personal_Care Home_and_Kitchen Kindle_Store
        Movies_and_TV Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies
        Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games""".split(),
    "amazon2018": """AMAZON_FASHION All_Beauty Appliances Arts_Crafts_and_Sewing Automotive Books
        CDs_and_Vinyl Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music
        Electronics Gift_Cards Grocery_and_Gourmet_Food Home_and_Kitchen Industrial_and_Scientific
        Kindle_Store Luxury_Beauty Magazine_Subscriptions Movies_and_TV Musical_Instruments
        Office_Products Patio_Lawn_and_Garden Pet_Supplies Prime_Pantry Software
        Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games""".split(),
    "amazon2023": """All_Beauty Amazon_Fashion Appliances Arts_Crafts_and_Sewing Automotive
        Baby_Products Beauty_and_Personal_Care Books CDs_and_Vinyl Cell_Phones_and_Accessories
        Clothing_Shoes_and_Jewelry Digital_Music Electronics Gift_Cards Grocery_and_Gourmet_Food
        Handmade_Products Health_and_Household Health_and_Personal_Care Home_and_Kitchen
        Industrial_and_Scientific Kindle_Store Magazine_Subscriptions Movies_and_TV
        Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies Software
        Sports_and_Outdoors Subscription_Boxes Tools_and_Home_Improvement Toys_and_Games
        Unknown Video_Games""".split(),
    "movielens": ["100k", "1m", "20m"],
}

#: Names under which papers know Amazon's categories of 2014; any other is its own, in lower case.
_PAPER_NAMES = {
    "Sports_and_Outdoors": "sports",
    "Clothing_Shoes_and_Jewelry": "clothing",
    "Toys_and_Games": "toys",
}


def raw_file(source: str, role: str, variant: str = "") -> RawFile:
    """Return a file of a source that can be fetched.

    Args:
        source: a key of ``ADDRESSES``.
        role: a key of its files.
        variant: category or size, one of ``VARIANTS[source]`` where there are some.
    """
    address = ADDRESSES[source][role].format(variant)
    return RawFile(role, address, address.rpartition("/")[2])


def dataset_name(source: str, variant: str) -> str:
    """Return the name that a dataset gets unless ``--name`` says otherwise.

    Amazon's categories of 2014 have the papers' names; those of other years begin with the source,
    so that they are not taken for the papers'.
    """
    if source == "amazon2014":
        return _PAPER_NAMES.get(variant, variant.lower())
    if source == "movielens":
        return f"ml-{variant}"
    return "-".join(filter(None, [source, variant.lower().replace("_", "-")]))
