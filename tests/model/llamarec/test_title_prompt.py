import pytest
import torch
from transformers import AutoTokenizer

from recbole_llm.model.llamarec.prompt import TitlePrompt, letter_ids, load_template

TEMPLATE = ("Items user", "Candidates", "Letter")
TITLES = ["i1 i11", "i2", "i3 i13 i23", "i4"]


@pytest.fixture(scope="module")
def tokenizer(lettered_llm):
    return AutoTokenizer.from_pretrained(lettered_llm)


def texts(prompt, tokenizer, history, candidates):
    ids, mask = prompt(torch.tensor(history), torch.tensor(candidates))
    assert not ids[mask == 0].any()
    assert (mask.diff(dim=1) >= 0).all() and mask[:, -1].all()  # left-padded
    rows = zip(ids, mask, strict=True)
    return [tokenizer.convert_ids_to_tokens(row[real.bool()].tolist()) for row, real in rows]


def test_prompts_are_the_texts_by_hand(tokenizer):
    prompt = TitlePrompt(TEMPLATE, tokenizer, TITLES, 2, 32)
    found = texts(prompt, tokenizer, [[3, 2, 0], [0, 0, 0]], [[4, 1], [3, 2]])
    assert " ".join(found[0]) == (
        "Items user - i3 i13 i23 - i2 Candidates A : i4 B : i1 i11 Letter"
    )
    assert " ".join(found[1]) == "Items user Candidates A : i3 i13 i23 B : i2 Letter"


def test_titles_are_cut_and_the_longest_prompt_is_known(tokenizer):
    prompt = TitlePrompt(TEMPLATE, tokenizer, TITLES, 2, 2)
    found = texts(prompt, tokenizer, [[3, 1]], [[3, 1]])[0]
    assert " ".join(found) == "Items user - i3 i13 - i1 i11 Candidates A : i3 i13 B : i1 i11 Letter"
    assert len(found) == prompt.longest(2, 2)


def test_bos_begins_a_prompt_of_a_tokenizer_that_puts_one(tokenizer, tmp_path):
    from tokenizers import processors

    tokenizer.save_pretrained(tmp_path)
    other = AutoTokenizer.from_pretrained(tmp_path)
    other.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    found = texts(TitlePrompt(TEMPLATE, other, TITLES, 2, 9), other, [[2]], [[4, 1]])[0]
    assert found[:2] == ["<s>", "Items"] and found.count("<s>") == 1


def test_letters_are_tokens_of_their_own(tokenizer):
    found = letter_ids("Letter", tokenizer, 26)
    assert tokenizer.convert_ids_to_tokens(found.tolist()) == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def test_letters_that_share_a_token_are_refused(tiny_llm):
    with pytest.raises(ValueError, match="letters A to E, and two of them are the same token"):
        letter_ids("Next:", AutoTokenizer.from_pretrained(tiny_llm), 5)


def test_letters_of_several_tokens_are_refused(tokenizer):
    from tokenizers import normalizers

    other = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    other.backend_tokenizer.normalizer = normalizers.Replace("C", "A B")
    with pytest.raises(ValueError, match="'C' is not a token of its own behind the prompt 'Next'"):
        letter_ids("Next", other, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{candidates} {history} next", "candidates} exactly once, behind {history}"),
        ("{history} next", "candidates} exactly once, behind {history}"),
        ("{history} {candidates} {candidates}", "candidates} exactly once, behind {history}"),
        ("{candidates} next", "must hold {history} exactly once, found it 0 times"),
    ],
)
def test_a_prompt_without_its_places_is_refused(tmp_path, text, message):
    path = tmp_path / "own.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message.replace("{", r"\{").replace("}", r"\}")):
        load_template(path)


def test_shipped_prompt_has_its_places():
    assert all(part.strip() for part in load_template("llamarec"))


@pytest.mark.llm
def test_pieces_are_the_tokens_of_the_whole_text():
    from recbole_llm.llm.backbone import load_backbone

    tokenizer = load_backbone("smollm2-135m", num_layers=1).tokenizer
    head, middle, tail = load_template("llamarec")
    titles = ["Toy Story", "Four Rooms", "Seven (Se7en)", "Dead Man Walking, 1995"]
    prompt = TitlePrompt((head, middle, tail), tokenizer, titles, 2, 32)
    ids, _ = prompt(torch.tensor([[1, 3]]), torch.tensor([[4, 2]]))
    text = (
        f"{head}\n- Toy Story\n- Seven (Se7en){middle}\nA: Dead Man Walking, 1995\nB: Four Rooms"
        f"{tail}\n"
    )
    assert ids[0].tolist() == tokenizer(text)["input_ids"]
