"""Token vectors: the library's model beside formulas of five lines, training twice, damaged files, passes in a row."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from sentence_transformers.util import maxsim
from tiny import VOCABULARY, bert

from cardioembed_lib import encoder as encoders
from cardioembed_lib import training
from cardioembed_study.medembed import asked, late

WORDS = VOCABULARY.split()
PLAN = training.Plan(batch_size=4, epochs=2, learning_rate=5e-3, seed=17, temperature=1.0, precision="float32")


def texts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(n)]


def task(queries: int = 3, passages: int = 5) -> asked.Asked:
    grades = np.eye(queries, passages, dtype=np.int8)
    return asked.Asked("toy", texts(queries), texts(passages, 1), grades, ["d"] * queries, asked.MRR)


def pairs(n: int = 12, negatives: int = 1) -> pl.DataFrame:
    columns = {"anchor": texts(n), "positive": texts(n, 1), "negatives": [texts(negatives, 2 + i) for i in range(n)]}
    types = {"negatives": pl.List(pl.String)}
    return pl.DataFrame(columns | {"group": [f"g{i // 2}" for i in range(n)]}, schema_overrides=types)


def tokens(*lengths: int, width: int = 6) -> late.Tokens:
    rng = np.random.default_rng(3)
    made = [rng.normal(size=(length, width)) for length in lengths]
    return [(each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float16) for each in made]


def by_hand(queries, passages) -> np.ndarray:
    out = np.zeros((len(queries), len(passages)))
    for q, query in enumerate(queries):
        for n, passage in enumerate(passages):
            out[q, n] = (query.astype(np.float32) @ passage.astype(np.float32).T).max(axis=1).mean()
    return out


def test_untrained_vectors_are_the_encoders_own_normalised_states(tmp_path):
    base, toy = bert(), task()
    queries, passages = late.vectors(toy, late.untrained(base), tmp_path)
    for found, side in ((queries, toy.queries), (passages, toy.passages)):
        for vectors, text in zip(found, side, strict=True):
            with torch.inference_mode():
                states = base.model(**encoders.pad(base, encoders.tokenise(base, [text]))).last_hidden_state[0]
            np.testing.assert_allclose(vectors, torch.nn.functional.normalize(states, dim=1), atol=2e-3)


def test_prompts_and_lengths_reach_the_tokens(tmp_path):
    base = replace(bert(max_length=8), prompts={"query": "the heart ", "document": ""})
    queries, passages = late.vectors(task(), late.untrained(base), tmp_path)
    assert max(map(len, queries)) == max(map(len, passages)) == 8
    bare, _ = late.vectors(task(), late.untrained(bert(max_length=8)), tmp_path)
    assert not np.allclose(queries[0], bare[0][: len(queries[0])])


def test_similarities_are_the_formula_and_the_librarys_maxsim_over_the_query_tokens(monkeypatch):
    queries, passages = tokens(2, 5, 1), tokens(4, 1, 9, 3, 2)
    monkeypatch.setattr(late, "COLUMNS", 2)
    found = late.similarities(queries, passages)
    np.testing.assert_allclose(found, by_hand(queries, passages), atol=1e-6)
    sums = maxsim(*([torch.from_numpy(t).float() for t in side] for side in (queries, passages)))
    np.testing.assert_allclose(found * np.array([[2], [5], [1]]), sums, atol=1e-6)
    assert found.dtype == np.float32


def test_equal_passages_tie_wherever_they_stand():
    queries, (twin, other) = tokens(7, 30), tokens(25, 40)
    found = late.similarities(queries, [twin, other, twin])
    toy = replace(task(2, 3), grades=np.array([[1, 0, 0], [0, 0, 1]], dtype=np.int8))
    assert (asked.score(toy, found) <= 1 / 2).all()


def test_loss_is_the_cross_entropy_of_the_sums_values_and_gradients():
    model = late.untrained(bert())
    sides = ("query", "document", "document")
    features = [dict(model.preprocess(texts(4, seed), task=side)) for seed, side in enumerate(sides)]
    plain = [model(dict(each), task=side) for each, side in zip(features, sides, strict=True)]
    each = [[t[m.bool()] for t, m in zip(p["token_embeddings"], p["attention_mask"], strict=True)] for p in plain]
    documents = [d for pair in zip(*each[1:], strict=True) for d in pair]  # positive, negative, positive, …
    sums = torch.stack([torch.stack([(q @ d.T).max(dim=1).values.sum() for d in documents]) for q in each[0]])
    wanted = torch.nn.functional.cross_entropy(sums, torch.arange(4) * 2)
    loss = MultiVectorMultipleNegativesRankingLoss(model, scale=1.0, mini_batch_size=2)(features)
    weights = [p for p in model.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(value, weights, allow_unused=True) for value in (loss, wanted)]
    torch.testing.assert_close(loss, wanted)
    assert any(g is not None and g.abs().max() > 1e-3 for g in gradients[0])
    for ours, theirs in zip(*gradients, strict=True):
        if ours is not None:
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    folders = [tmp_path_factory.mktemp("late") / name for name in ("once", "again")]
    for folder in folders:
        torch.rand(3)  # whatever was drawn before
        late.trained(late.untrained(bert()), pairs(), PLAN, folder, progress=False)
    return folders


def test_training_twice_gives_the_same_bytes_and_no_pickle(twice):
    once, again = ({p.relative_to(f): p for p in f.rglob("*") if p.is_file()} for f in twice)
    assert once.keys() == again.keys()
    assert {p.suffix for p in once} == {".json", ".safetensors", ""}
    same = [name for name in once if name.suffix == ".safetensors"]
    assert len(same) == 1 and all(once[name].read_bytes() == again[name].read_bytes() for name in same)
    read = [name for name in once if name.suffix == ".json" and name.name != late.MADE]
    assert all(once[name].read_text() == again[name].read_text() for name in read)  # no folder of a moment is in them


def test_training_moves_all_layers_by_warm_up_and_cosine_and_is_what_is_loaded(twice, tmp_path):
    made = late.made_of(twice[0])
    rates = [row["learning_rate"] for row in made["history"]]
    wanted = [training.learning_rate_at(step, 6, PLAN.learning_rate, 0.1) for step in range(6)]
    np.testing.assert_allclose(rates, wanted)  # two epochs of three batches, each of four groups of six
    model, before = late.load(twice[0]), late.untrained(bert())
    moved = [n for n, w in before.state_dict().items() if not torch.equal(w, model.state_dict()[n])]
    assert len(moved) == sum("encoder.layer" in name for name in moved) == 12
    queries, _ = late.vectors(task(), model, tmp_path)
    assert all(np.isfinite(vectors).all() for vectors in queries)


def test_a_finished_training_is_read_and_another_or_a_changed_one_refused(twice, tmp_path, monkeypatch):
    monkeypatch.setattr(late, "_train", None)
    start = late.untrained(bert())
    found = late.trained(start, pairs(), PLAN, twice[0])
    assert late.fingerprint(found) == late.fingerprint(late.load(twice[1]))
    with pytest.raises(ValueError, match=r"once holds another training \(plan\)"):
        late.trained(start, pairs(), replace(PLAN, seed=18), twice[0])
    with pytest.raises(ValueError, match=r"once holds another training \(base\)"):
        late.trained(late.untrained(bert(seed=1)), pairs(), PLAN, twice[0])
    path = twice[1] / late.MADE
    path.write_text(json.dumps(late.made_of(twice[1]) | {"seconds": 0}))
    with pytest.raises(ValueError, match=r"again/late.json: sha256 is"):
        late.load(twice[1])


def test_pairs_that_make_no_batch_are_refused(tmp_path):
    with pytest.raises(ValueError, match="6 pairs, 3 groups: no batch of 4"):
        late.trained(late.untrained(bert()), pairs(6), PLAN, tmp_path, progress=False)
    uneven = pl.concat([pairs(4, 1), pairs(4, 2)]).with_columns(group=pl.Series(map(str, range(8))))
    with pytest.raises(ValueError, match="pairs have 1 to 2 negatives"):
        late.trained(late.untrained(bert()), uneven, PLAN, tmp_path, progress=False)


def test_vectors_are_embedded_once_and_a_damaged_file_anew(tmp_path, monkeypatch, capsys):
    model, toy = late.untrained(bert()), task()
    first = late.vectors(toy, model, tmp_path)
    monkeypatch.setattr(model, "forward", None)
    for kept, known in zip(late.vectors(toy, model, tmp_path), first, strict=True):
        assert all(np.array_equal(a, b) and a.dtype == np.float16 for a, b in zip(kept, known, strict=True))
    monkeypatch.undo()
    files = sorted(tmp_path.iterdir())
    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    files[1].write_bytes(files[1].read_bytes()[:40])
    for anew, known in zip(late.vectors(toy, model, tmp_path), first, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(anew, known, strict=True))
    assert capsys.readouterr().err.count("its texts are embedded again") == 2


def test_pooling_keeps_the_first_token_and_the_means_of_clusters():
    a, b = np.eye(4, dtype=np.float16)[:2]
    found = late.pooled([np.stack([a, b, a, b, a])], 2)[0]
    np.testing.assert_array_equal(found, [a, a, b] if found[1][0] else [a, b, a])
    assert late.size(late.pooled(tokens(101, 51), 10)) == {"vectors": (11 + 6) / 2, "bytes": (11 + 6) / 2 * 6 * 2}


def test_eight_bits_keep_each_number_within_half_a_step():
    passages = tokens(4, 2)
    found, size = late.eight_bits(passages)
    for kept, vectors in zip(found, passages, strict=True):
        step = np.abs(vectors).max(axis=1, keepdims=True) / 127
        assert (np.abs(kept.astype(float) - vectors) <= 0.6 * step + 1e-3).all()
    assert size == 6 * (6 + 2) and late.size(passages)["bytes"] * 2 == 6 * 6 * 2


def test_a_second_pass_ranks_what_the_first_left_and_nothing_else():
    first, second = [[5, 4, 3, 2], [5, 4, 4, 1]], [[0.1, 0.2, 0.9, 0.8], [0.3, 0.2, 0.9, 0.8]]
    out = -np.inf
    np.testing.assert_allclose(late.second_pass(first, second, 2), [[0.1, 0.2, out, out], [0.3, out, out, out]])
    np.testing.assert_allclose(late.second_pass(first, second, 4), second)
    assert np.isneginf(late.second_pass([[0, 0, 0]], [[1, 2, 3]], 1)).all()  # ties across the border count against us
    with pytest.raises(ValueError, match=r"the passes score \(1, 2\) and \(1, 3\)"):
        late.second_pass([[1, 2]], [[1, 2, 3]])


def test_what_the_first_pass_left_out_comes_last_of_all():
    second = np.full((1, 200), 0.5, dtype=np.float32)
    second[0, 150] = 0.9
    left = late.second_pass(-np.arange(200.0)[None], second, 100)
    toy = task(1, 200)
    graded = replace(toy, grades=(np.arange(200) == 150).astype(np.int8)[None])
    assert asked.score(graded, left).tolist() == [1 / 200]  # the last rank of the pool: not 0, but less than 1 in N
    assert asked.score(replace(graded, measure=asked.NDCG), left).tolist() == [0]


def test_bytes_of_two_joined_pools_are_those_of_a_passage_of_either(tmp_path):
    model, toy = late.untrained(bert()), task(4, 30)
    short = replace(toy, passages=["heart"] * 10, grades=toy.grades[:, :10])
    tasks = {name: toy for names in asked.JOINED.values() for name in names} | {"medquad_other": short}
    single, first = {"tuned": dict.fromkeys(tasks, np.zeros(4))}, {name: {} for name in tasks}
    found = late.measured(tasks, {"tuned": [model]}, single, first, tmp_path, 17)["tuned"]
    both = [*late.vectors(toy, model, tmp_path)[1], *late.vectors(short, model, tmp_path)[1]]
    assert found["medquad"]["all"]["bytes"] == pytest.approx(sum(each.nbytes for each in both) / 40)


def test_each_form_is_scored_against_one_vector_a_text_and_a_second_pass_against_its_first(tmp_path):
    model, toy = late.untrained(bert()), task(4, 30)
    tasks = {name: replace(toy, name=name) for names in asked.JOINED.values() for name in names}
    words = np.tile(np.linspace(1, 0, 30), (4, 1))
    single = {"tuned": dict.fromkeys(tasks, np.full(4, 0.25))}
    found = late.measured(tasks, {"tuned": [model]}, single, {name: {"bm25": words} for name in tasks}, tmp_path, 17)
    queries, passages = late.vectors(toy, model, tmp_path)
    by_form = {"all": passages, "tenth": late.pooled(passages, late.POOLED), "bm25": None}
    for form, kept in by_form.items():
        similar = words if kept is None else late.similarities(queries, kept)
        m, by_hand = found["tuned"]["SciFact_part"][form], asked.score(toy, similar).mean()
        assert (m["score"], m["difference"]) == pytest.approx((by_hand, by_hand - 0.25))
        assert m.get("bytes") == (None if kept is None else pytest.approx(sum(each.nbytes for each in kept) / 30))
    assert found["tuned"]["definitions"]["all"]["queries"] == 8
    assert found["tuned"]["medquad"]["second_bm25"]["score"] == found["tuned"]["medquad"]["all"]["score"]  # all 30 pass
    single_vectors = np.eye(4, dtype=np.float32), np.ones((30, 4), dtype=np.float32)
    taken = late.times(toy, model, single_vectors, tmp_path)
    assert taken.keys() == {"all", "tenth", "second", "single"} and taken["all"] > 0
    np.testing.assert_allclose(
        late._of_one(queries[0], *late._laid_out(passages)), late.similarities(queries[:1], passages)[0], atol=1e-6
    )
