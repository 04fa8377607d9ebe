"""Templates of several hops, and their filling, against loops over lists."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.llm.backbone import load_backbone
from recbole_llm.model.galrec.hop_prompt import assemble, load_hop_prompts

KEYS = [(side, hop) for side in ("user", "item") for hop in range(4)]


def write(path, **changed):
    slots = ["{hop0}", "{hop1}", "{hop2}", "{hop3}"]
    lines = {f"{side}_{hop}": f"User {' '.join(slots[: hop + 1])} next:" for side, hop in KEYS}
    lines.update(changed)
    path.write_text("\n".join(f'{key}: "{text}"' for key, text in lines.items() if text))
    return path


@pytest.fixture
def tokenizer(tiny_t5):
    return load_backbone(tiny_t5, encoder_decoder=True).tokenizer


@given(
    layout=st.lists(
        st.one_of(st.integers(0, 2), st.lists(st.integers(0, 50), min_size=1, max_size=3)),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 99),
)
def test_filled_rows_equal_a_loop(layout, seed):
    generator = torch.Generator().manual_seed(seed)
    hops = [torch.randint(-3, 60, (4, n), generator=generator).clamp(min=-1) for n in (1, 3, 5)]
    rows = []
    for row in range(4):
        ids = []
        for piece in layout:
            ids += hops[piece][row].tolist() if isinstance(piece, int) else piece
        rows.append([token for token in ids if token >= 0])
    longest = max(map(len, rows))
    ids, mask = assemble(layout, hops)
    assert ids.tolist() == [[0] * (longest - len(row)) + row for row in rows]
    assert mask.tolist() == [[0] * (longest - len(row)) + [1] * len(row) for row in rows]


def test_pieces_of_a_template_and_the_eos_of_t5(tmp_path, tokenizer):
    path = write(tmp_path / "own.yaml", user_2="User {hop0} items {hop2} users{hop1} next:")
    words = {w: tokenizer.convert_tokens_to_ids(w) for w in ("User", "items", "users", "next", ":")}
    found = load_hop_prompts(path, tokenizer, add_eos=True)
    assert set(found) == set(KEYS)
    next_ = [words["next"], words[":"]]
    assert found["user", 2] == [
        [words["User"]], 0, [words["items"]], 2, [words["users"]], 1, next_, [1]
    ]  # fmt: skip
    assert load_hop_prompts(path, tokenizer, add_eos=False)["user", 2][-1] == next_


@pytest.mark.parametrize("name", ["galrec", "galrec_short"])
def test_shipped_templates_name_every_hop(name, tokenizer):
    for (_, hop), pieces in load_hop_prompts(name, tokenizer, add_eos=False).items():
        assert [piece for piece in pieces if isinstance(piece, int)] == list(range(hop + 1))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"item_1": ""}, "'item_1' is missing"),
        ({"item_4": "x"}, "'item_4' is unknown"),
        ({"user_1": "User {hop0}"}, "user_1: must hold each of {hop0}, {hop1} once"),
        ({"user_0": "User {hop0} {hop0}"}, "user_0: must hold each of {hop0} once"),
        ({"user_0": "User {hop0} {hop1}"}, "user_0: must hold each of {hop0} once"),
        ({"user_0": "User {id} {hop0}"}, "user_0: must hold each of {hop0} once"),
    ],
)
def test_bad_templates_are_named(tmp_path, tokenizer, changed, message):
    with pytest.raises(ValueError, match=message):
        load_hop_prompts(write(tmp_path / "own.yaml", **changed), tokenizer, add_eos=False)


def test_unknown_prompts_are_listed(tmp_path, tokenizer):
    with pytest.raises(FileNotFoundError, match="Did you mean 'galrec'. Known: galrec, galrec_sh"):
        load_hop_prompts("galrek", tokenizer, add_eos=False)
    with pytest.raises(FileNotFoundError, match="none.yaml does not exist"):
        load_hop_prompts(tmp_path / "none.yaml", tokenizer, add_eos=False)
