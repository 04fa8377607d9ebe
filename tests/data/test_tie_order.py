from recbole_llm.data.tie_order import tie_order


def test_places_are_a_permutation_by_the_hash_of_tokens():
    tokens = ["[PAD]", "b", "a", "c"]
    place = tie_order(tokens)
    assert sorted(place.tolist()) == [0, 1, 2, 3]
    other = tie_order(["[PAD]", "c", "b", "a"])
    order = {token: int(place[n]) for n, token in enumerate(tokens)}
    assert [order[t] for t in ("[PAD]", "c", "b", "a")] == other.tolist()
