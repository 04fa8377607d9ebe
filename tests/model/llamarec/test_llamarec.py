import copy

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from transformers import AutoTokenizer, LlamaForCausalLM

from recbole_llm.model.llamarec.candidates import lifted
from recbole_llm.model.llamarec.llamarec import LlamaRec
from recbole_llm.model.llamarec.prompt import load_template

C = 5


@pytest.fixture
def make(world, clicks):
    """Make a LlamaRec whose adapters are not at their start, where they do nothing."""
    world.write(clicks(parity=False))

    def build(**overrides):
        bench = world.bench("LlamaRec", **overrides)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in bench.model.parameters():
                if weight.requires_grad:
                    weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
        return bench

    return build


def histories(bench, phase="test"):
    """Each user's known items, oldest first, from the rows of the parts."""
    parts = [bench.split.train] + ([bench.split.valid] if phase == "test" else [])
    known = {}
    for part in parts:
        feat = part.inter_feat
        rows = zip(*(feat[f].tolist() for f in ("timestamp", "user_id", "item_id")), strict=True)
        for _, user, item in sorted(rows):
            known.setdefault(user, []).append(item)
    return known


class Reference:
    """Letters' logits by transformers alone: one whole text, one unpadded forward pass."""

    def __init__(self, bench, folder):
        self.model = LlamaForCausalLM.from_pretrained(folder)
        self.model.model = copy.deepcopy(bench.model.llm).eval().merge_and_unload()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.names = bench.split.dataset.field2id_token["item_id"]

    def __call__(self, history, candidates):
        head, middle, tail = load_template("llamarec")
        lines = "".join(f"\n- {self.names[item]}" for item in history)
        offers = "".join(
            f"\n{letter}: {self.names[item]}"
            for letter, item in zip("ABCDE", candidates, strict=True)
        )
        ids = self.tokenizer(f"{head}{lines}{middle}{offers}{tail}\n", return_tensors="pt")
        with torch.no_grad():
            logits = self.model(**ids).logits[0, -1]
        letters = self.tokenizer.convert_tokens_to_ids(list("ABCDE"))
        return logits[letters].double().numpy()


def retriever_scores(bench, history):
    seq = torch.tensor([history])
    batch = Interaction({"item_id_list": seq, "item_length": torch.tensor([len(history)])})
    with torch.no_grad():
        return bench.model.candidates.retriever.full_sort_predict(batch)[0].double().numpy()


# ---- scores


@pytest.mark.parametrize("mask_history", [True, False])
def test_scores_are_those_of_whole_texts_one_by_one(make, lettered_llm, mask_history):
    bench = make(mask_history=mask_history)
    bench.model.eval()
    known, reference = histories(bench), Reference(bench, lettered_llm)
    n_reordered = n_known = 0
    for batch, *_ in bench.loaders.test:
        with torch.no_grad():
            scores = bench.model.full_sort_predict(batch).view(len(batch), -1).double().numpy()
        for user, found in zip(batch["user_id"].tolist(), scores, strict=True):
            base = retriever_scores(bench, known[user])
            offered = base.copy()
            offered[0] = -np.inf
            if mask_history:
                offered[known[user]] = -np.inf
            best = np.argsort(-offered)[:C].copy()
            n_known += len(set(best) & set(known[user]))
            order = np.argsort(-found[1:])[:C] + 1
            assert set(order) == set(best)
            others = np.setdiff1d(np.arange(1, len(base)), best)
            np.testing.assert_allclose(found[others], base[others], atol=1e-6)
            ids = torch.tensor([user]), torch.from_numpy(best).unsqueeze(0)
            prompted = bench.model.candidates.fixed_order(*ids)[0].tolist()
            expected = reference(known[user][-3:], prompted)
            np.testing.assert_allclose(
                found[prompted], base[1:].max() + 1 + expected - expected.min(), rtol=1e-4
            )
            n_reordered += list(order) != list(best)
    assert n_reordered > 40  # of 60 users
    assert (n_known == 0) == mask_history


def test_recall_at_the_number_of_candidates_is_the_retrievers(make):
    bench = make()
    found = bench.trainer.evaluate(bench.loaders.test, load_best_model=False)["recall@5"]
    hits = [
        item in set(np.argsort(-masked(retriever_scores(bench, known), known))[:C])
        for known, item in zip(*test_rows(bench), strict=True)
    ]
    assert found == pytest.approx(np.mean(hits), abs=1e-6) and 0 < found < 1


def masked(scores, known):
    scores[[0, *known]] = -np.inf
    return scores


def test_rows(bench):
    feat, known = bench.split.test.inter_feat, histories(bench)
    return [known[user] for user in feat["user_id"].tolist()], feat["item_id"].tolist()


test_rows.__test__ = False


def test_lifted_by_hand():
    scores = torch.tensor([[9.0, 1.0, 4.0, 3.0, 2.0], [0.0, 0.0, -1.0, 0.0, 5.0]])
    items, order = torch.tensor([[3, 1], [1, 2]]), torch.tensor([[-2.0, -1.5], [7.0, 7.0]])
    expected = [[9.0, 5.5, 4.0, 5.0, 2.0], [0.0, 6.0, 6.0, 0.0, 5.0]]
    assert lifted(scores, items, order).tolist() == expected


def test_order_of_candidates_is_fixed_by_names_and_differs_between_users(make):
    candidates = make().model.candidates
    users, items = torch.arange(1, 41), torch.tensor([3, 9, 27, 31, 14]).expand(40, -1)
    first = candidates.fixed_order(users, items)
    assert torch.equal(first, candidates.fixed_order(users, items.flip(1)))
    assert torch.equal(first.sort(dim=1).values, items.sort(dim=1).values)
    places = (first == 27).nonzero()[:, 1].bincount(minlength=C)
    assert (places >= 3).all()  # 8 expected of each


# ---- training


def rows_of(batch):
    names = ("user_id", "item_id_list", "item_length", "item_id", "n_before")
    return zip(*(batch[name].tolist() for name in names), strict=True)


def test_loss_is_the_cross_entropy_of_the_letter_where_the_retriever_found_the_item(
    make, lettered_llm, monkeypatch
):
    bench = make(lora_dropout=0.0)
    monkeypatch.setattr("recbole_llm.model.llamarec.llamarec.shuffled", lambda items: items.flip(1))
    batch = bench.batches()[0]
    known, reference = histories(bench, "valid"), Reference(bench, lettered_llm)
    losses = []
    for user, seq, length, target, n_before in rows_of(batch):
        before = known[user][:n_before]
        assert known[user][n_before] == target and before[-length:] == seq[:length]
        best = np.argsort(-masked(retriever_scores(bench, seq[:length]), before))[:C][::-1]
        if target in best:
            logits = reference(before[-3:], best)
            losses.append(np.log(np.exp(logits).sum()) - logits[list(best).index(target)])
    assert 3 < len(losses) < len(batch)
    found = bench.model.train().calculate_loss(batch)
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_gradients_are_those_of_the_rows_one_by_one(make, monkeypatch):
    bench = make(lora_dropout=0.0)
    monkeypatch.setattr("recbole_llm.model.llamarec.llamarec.shuffled", lambda items: items)
    model, batch = bench.model.train(), bench.batches()[0]
    model.calculate_loss(batch).backward()
    together = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}
    model.zero_grad()
    losses = [model.calculate_loss(batch[row : row + 1]) for row in range(len(batch))]
    losses = [loss for loss in losses if loss.grad_fn is not None]
    (sum(losses) / len(losses)).backward()
    assert together.keys() == {n for n, w in model.named_parameters() if w.requires_grad}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(weight.grad, together[name], rtol=1e-3, atol=1e-6)


def test_a_batch_without_a_found_item_has_no_loss(make):
    bench = make()
    model, batch = bench.model.train(), bench.batches()[0]
    scores = model.candidates.scores(batch)
    worst = model.candidates.open_scores(
        scores, batch["user_id"], batch["item_id_list"], batch["n_before"]
    )
    batch.update(Interaction({"item_id": worst.masked_fill(worst.isinf(), 99).argmin(dim=1)}))
    loss = model.calculate_loss(batch)
    loss.backward()
    assert loss.item() == 0 and all(w.grad is None for w in model.parameters())


def test_random_candidates_are_the_target_and_items_that_the_user_had_not(make):
    bench = make(train_candidates="random")
    candidates, batch = bench.model.candidates, bench.batches()[0]
    known = histories(bench, "valid")
    scores = candidates.open_scores(
        candidates.scores(batch), batch["user_id"], batch["item_id_list"], batch["n_before"]
    )
    offered = [candidates.random_with(scores, batch["item_id"]) for _ in range(2)]
    assert not torch.equal(*offered)
    for (user, _, _, target, n_before), row in zip(
        rows_of(batch), offered[0].tolist(), strict=True
    ):
        assert target in row and len(set(row)) == C and 0 not in row
        assert not set(row) & set(known[user][:n_before])
    assert len(offered[0].unique()) == 40  # drawn from all
    loss = bench.model.train().calculate_loss(batch)
    assert 0 < loss.item() < 20


def test_candidates_of_training_are_shuffled_and_the_retriever_stays_in_evaluation(make):
    bench = make(lora_dropout=0.0, retriever_stage={"hidden_dropout_prob": 0.5, "hidden_size": 16})
    model, batch = bench.model.train(), bench.batches()[0]
    assert torch.equal(model.candidates.scores(batch), model.candidates.scores(batch))
    losses = [model.calculate_loss(batch).item() for _ in range(4)]
    assert len(set(losses)) == 4


def test_training_moves_the_adapters_alone(make):
    bench = make()
    before = {name: weight.clone() for name, weight in bench.model.named_parameters()}
    bench.trainer._train_epoch(bench.loaders.train, 0)
    for name, weight in bench.model.named_parameters():
        assert torch.equal(weight, before[name]) != ("lora_" in name), name
    assert all("lora_" in name for name in bench.model.state_dict())


# ---- what is refused before anything is trained


def refused(world, **overrides):
    config = world.config("LlamaRec", **overrides)
    with pytest.raises((ValueError, OSError)) as error:
        LlamaRec.check_available(config)
    return str(error.value)


def test_a_dataset_without_titles_is_refused(world, clicks):
    world.write(clicks(parity=False))
    assert "toy.item has no column 'name', it has item_id, title" in refused(
        world, item_text=["name"]
    )
    item_file = world.folder / "toy.item"
    item_file.write_text("item_id:token\tmovie_title:token_seq\ni1\t\ni2\t\n")
    assert "no item has text in movie_title" in refused(world)
    item_file.write_text("item_id:token\tname:token_seq\ni1\ta\n")
    assert "no column 'title', it has item_id, name" in refused(world)
    item_file.unlink()
    assert "toy.item does not exist, and the prompt is made of the items' titles" in refused(world)


def test_a_language_model_that_does_not_do_is_refused(world, clicks, tiny_llm, tmp_path):
    world.write(clicks(parity=False))
    assert "does not do for LlamaRec" in refused(world, llm_path=tiny_llm)
    found = refused(world, n_history=20)
    assert "a prompt can have 178 tokens, and this model takes 128. Lower n_history" in found


def test_an_untied_head_is_read_or_missed(world, clicks, lettered_llm, tmp_path):
    world.write(clicks(parity=False))
    tokenizer = AutoTokenizer.from_pretrained(lettered_llm)
    model = LlamaForCausalLM.from_pretrained(lettered_llm)
    model.config.tie_word_embeddings = False
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(model.lm_head.weight.shape, generator=generator)
    model.lm_head.weight = torch.nn.Parameter(head)
    for name, part in (("whole", model), ("trunk", model.model)):
        part.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    bench = world.bench("LlamaRec", llm_path=str(tmp_path / "whole"))
    letters = tokenizer.convert_tokens_to_ids(list("ABCDE"))
    assert torch.equal(bench.model.letter_rows, head[letters])
    assert "its language-model head is not tied" in refused(world, llm_path=str(tmp_path / "trunk"))


def test_the_item_file_is_among_the_files_of_the_data(make, world):
    bench = make()
    names = [path.name for path in bench.split.dataset.source_files()]
    assert names == ["toy.inter", "toy.item"]


def test_another_length_for_the_retriever_is_refused(world, clicks):
    world.write(clicks(parity=False))
    assert (
        world.config("LlamaRec", MAX_ITEM_LIST_LENGTH=7).stages["retriever"]["MAX_ITEM_LIST_LENGTH"]
        == 7
    )
    with pytest.raises(ValueError, match="retriever_stage.MAX_ITEM_LIST_LENGTH=7 differs from"):
        world.config("LlamaRec", retriever_stage={"MAX_ITEM_LIST_LENGTH": 7})


def test_more_candidates_than_items_are_refused(world, clicks):
    world.write([row for row in clicks(parity=False) if int(row[1][1:]) < 20])
    with pytest.raises(ValueError, match="n_candidates=26, and the dataset has 20 items"):
        world.bench("LlamaRec", n_candidates=26, protocol="random811", max_title_tokens=1)


def test_items_without_a_title_are_named_so(make, world, clicks, caplog):
    bench = make()
    prompt = bench.model.prompt
    lines = (world.folder / "toy.item").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("i7\t")]
    (world.folder / "toy.item").write_text("\n".join(kept) + "\n")
    init_seed(2020, True)
    other = LlamaRec(bench.config, bench.split.train, bench.outputs)
    assert "1 of 40 items have no title" in caplog.text
    item = bench.split.dataset.token2id("item_id", "i7") + prompt.first_item
    assert other.prompt.tokens[other.prompt.start[item]] == 2  # the unknown word "untitled"
    assert prompt.tokens[prompt.start[item]] != 2
