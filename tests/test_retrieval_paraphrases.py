"""The task of finding a paraphrase: who is asked, and what stands in the pool."""

import polars as pl

from cardioembed_study.corpus import rewording
from cardioembed_study.retrieval import paraphrases, probe


def passages():
    """Forty sentences of four documents; every second cannot be paraphrased."""
    rows = []
    for n in range(40):
        document = "abcd"[n % 4]
        plain = f"The mitral valve closes before the aortic valve opens in patient {n}."
        text = (
            f"Several individuals require additional treatment and many medications in ward {n}."
            if n % 8 < 4
            else plain
        )
        where = {"a": "test", "b": "test", "c": "dev", "d": "train"}[document]
        topic = "cardiology" if document == "b" else "other"
        rows.append(
            {"kind": "sentence", "source": "s", "document": document, "text": text, "split": where, "topic": topic}
        )
    return pl.DataFrame(rows)


def test_the_own_paraphrase_of_every_query_is_in_the_pool_once():
    items = probe.load()[:3]
    hand, rule = paraphrases.tasks(passages(), items).values()
    assert (hand.name, rule.name) == ("paraphrase_hand", "paraphrase_rule") and hand.passages == rule.passages
    assert (len(hand.queries), len(rule.queries)) == (3, 10) and len(hand.passages) == len(set(hand.passages)) == 3 + 20
    assert [hand.passages[column] for column in hand.gold] == [i.paraphrase for i in items]
    assert [rule.passages[column] for column in rule.gold] == [rewording.paraphrase(text) for text in rule.queries]
    assert hand.clusters == [i.id for i in items] and rule.clusters == ["b"] * 5 + ["a"] * 5  # cardiology first
    assert hand.own.tolist() + rule.own.tolist() == [-1] * 13


def test_the_pool_stops_at_its_size_but_never_without_an_answer():
    for size, wanted in ((15, 15), (4, 10)):
        assert len(paraphrases.tasks(passages(), [], size=size)["paraphrase_rule"].passages) == wanted


def test_queries_are_at_most_the_stated_number(monkeypatch):
    monkeypatch.setattr(paraphrases, "N_ASKED", 7)
    found = paraphrases.tasks(passages(), probe.load()[:3])
    assert found["paraphrase_rule"].clusters == ["b"] * 4 and len(found["paraphrase_hand"].queries) == 3


def test_the_order_of_rows_changes_nothing_and_the_seed_does():
    shuffled = passages().sample(fraction=1, shuffle=True, seed=3)
    one, other = (paraphrases.tasks(frame, [])["paraphrase_rule"] for frame in (passages(), shuffled))
    assert (one.queries, one.passages, one.gold.tolist()) == (other.queries, other.passages, other.gold.tolist())
    assert paraphrases.tasks(passages(), [], seed=18)["paraphrase_rule"].queries != one.queries


def test_a_query_that_is_in_the_pool_is_told_to_be_its_own():
    asked = "Several individuals require additional treatment and many medications in ward 1."
    item = probe.Item(id="number-1", category="number", anchor="Ward 2.", paraphrase=asked, contradiction="Ward 3.")
    task = paraphrases.tasks(passages(), [item])["paraphrase_rule"]
    assert task.passages[task.own[task.queries.index(asked)]] == asked


def test_a_kind_without_a_paraphrase_is_no_task():
    assert paraphrases.tasks(passages().filter(split="train"), []) == {}


def test_documents_of_one_name_in_two_books_are_two_units():
    again = passages().with_columns(source=pl.lit("t"), text=pl.col("text").str.replace("ward", "house"))
    task = paraphrases.tasks(pl.concat([passages(), again]), [])["paraphrase_rule"]
    assert set(task.clusters) == {"s:a", "s:b", "t:a", "t:b"}
