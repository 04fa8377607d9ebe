import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from recbole_llm.profiles.answer import Answer, flaw, trim
from recbole_llm.profiles.prompts import (
    cut_to_tokens,
    item_description,
    load_image_prompt,
    load_profile_prompt,
    render,
)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder):
    return AutoTokenizer.from_pretrained(tokenizer_folder)


def test_shipped_prompts_are_the_paper_s():
    prompt = render(
        load_profile_prompt("mllmrec_profile"), dataset="d", max_words=100, items=["A", "B"]
    )
    assert prompt == (
        "Please reason about the user preferences based on the following list of item "
        "descriptions that he or she has interacted with. The list is: A; B. To generate the user "
        "preferences using a one-paragraph natural language in no more than 100 words."
    )
    prompt = render(load_image_prompt("mllmrec_image"), dataset="Baby", max_words=100)
    assert "relevant to the Baby, focusing on extracting key attributes" in prompt
    assert prompt.endswith("in no more than 100 words.") and "{" not in prompt


def test_braces_in_an_item_s_text_stay():
    assert render("{items} {max_words}", dataset="d", max_words=3, items=["{max_words}"]) == (
        "{max_words} 3"
    )


def test_profile_prompt_needs_items(tmp_path):
    (tmp_path / "p.txt").write_text("nothing")
    with pytest.raises(ValueError, match=r"p\.txt must hold \{items\} exactly once"):
        load_profile_prompt(str(tmp_path / "p.txt"))
    (tmp_path / "p.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"p\.txt is empty"):
        load_image_prompt(str(tmp_path / "p.txt"))


def test_cut_counts_tokens_and_not_characters(tokenizer):
    for text in ("number two", "zqxj wv"):  # words of the vocabulary, and single letters
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        cut = cut_to_tokens(text, len(tokens) - 1, tokenizer)
        assert text.startswith(cut) and len(cut) < len(text)
        assert cut_to_tokens(text, len(tokens), tokenizer) == text
    assert len(cut_to_tokens("number two", 1, tokenizer)) > 1
    assert len(cut_to_tokens("zqxj wv", 1, tokenizer)) == 1


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60), n=st.integers(1, 12))
def test_cut_is_a_prefix_within_the_limit(tokenizer, text, n):
    cut = cut_to_tokens(text, n, tokenizer)
    assert text.startswith(cut)
    assert len(tokenizer(cut, add_special_tokens=False)["input_ids"]) <= n


def test_description_joins_text_and_image():
    assert item_description("A  title", "a red\nball") == "A title a red ball"
    assert item_description("", "ball") == "ball" and item_description("A", "") == "A"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("I'm sorry, but I can't help with that.", "refused"),
        ("I’m sorry, I cannot", "refused"),
        ("As an AI language model, I have no preferences", "refused"),
        ("I cannot determine this.", "refused"),
        ("Unfortunately, I am unable to say.", "refused"),
        ("word " * 13, "over-long"),
        ("word " * 12, None),
        ("The user likes films about people who can't say sorry.", None),
        ("Icy comedies.", None),
    ],
)
def test_flaws(text, reason):
    assert flaw(Answer(text), max_words=10) == reason


def test_an_answer_that_was_cut_is_over_long():
    assert flaw(Answer("The user", is_cut=True), 10) == "over-long"


def test_trim_keeps_whole_sentences():
    assert trim("One two three. Four five six. Seven eight", 7) == "One two three. Four five six."
    assert trim("One two three four", 2) == "One two"
    assert trim("Likes: 1. Films of 2. many", 6) == "Likes: 1. Films of 2. many"
