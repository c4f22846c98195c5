"""The page of first places: lists that agree with the ranks, what is unseen, every text as it is, with and without the script."""

import numpy as np
import polars as pl
import pytest
from lxml import html

from cardioembed_lib import metrics
from cardioembed_study import paths
from cardioembed_study.corpus import manifests, pairs, passages
from cardioembed_study.retrieval import look, pools

HOSTILE = '<script>alert("1")</script> & *stars*'
NOTHING = pl.DataFrame(schema={"source": pl.String})


def outcome(task, similarities):
    scores = np.array(similarities, dtype=np.float32)
    ranks = metrics.gold_ranks(scores, task.gold, task.own)
    return pools.Outcome(ranks, np.zeros(len(scores), np.float32), scores)


@pytest.fixture
def task():
    """Return two queries of five passages: passage c is right for the first, a for the second, which is passage e itself."""
    queries, passages = ["Péricard or sac?", HOSTILE], [*"abcd", HOSTILE]
    return pools.Task("toy", queries, passages, np.array([2, 0]), ["x", "x"], np.array([-1, 4]))


@pytest.fixture
def rows(task):
    scores = {
        "BM25": [[0.5, 0.1, 0.5, 0.9, 0.0], [0.3, 0.2, 0.2, 0.1, 1.0]],
        "tuned": [[0.4, 0.5, 0.1, 0.3, 0.2], [0.0, 0.0, 0.0, 0.0, 0.0]],
    }
    return look.first(task, {name: outcome(task, one) for name, one in scores.items()}, k=3)


def places(row, model):
    return "".join("e" if place["text"] == HOSTILE else place["text"] for place in row["models"][model]["places"])


def test_places_by_hand_ties_stand_before_the_passage_sought_and_no_query_finds_itself(rows):
    assert [row["models"]["BM25"]["rank"] for row in rows] == [3, 1]
    assert [row["models"]["tuned"]["rank"] for row in rows] == [5, 4]
    assert [places(row, "BM25") for row in rows] == ["dac", "abc"]
    assert [places(row, "tuned") for row in rows] == ["bad", "bcd"]
    assert [row["right"] for row in rows] == ["c", "a"] and [row["candidates"] for row in rows] == [5, 4]


def test_the_passage_sought_is_marked_at_its_rank_and_nowhere_else():
    rng = np.random.default_rng(17)
    n_queries, n_passages = 40, 9
    texts, gold = [f"p{i}" for i in range(n_passages)], rng.integers(0, 8, n_queries)
    task = pools.Task("toy", [f"q{i}" for i in range(n_queries)], texts, gold, ["d"] * n_queries, np.full(n_queries, 8))
    found = outcome(task, rng.integers(0, 4, (n_queries, n_passages)) / 4)  # few values: many ties
    for row, rank in zip(look.first(task, {"m": found}), found.ranks, strict=True):
        marked = [n for n, place in enumerate(row["models"]["m"]["places"], start=1) if place["right"]]
        assert marked == ([rank] if rank <= 5 else []) and row["models"]["m"]["rank"] == rank
        assert "p8" not in [place["text"] for place in row["models"]["m"]["places"]]


# ---- what is asked


@pytest.fixture(scope="module")
def primer():
    """Return the primer as 01_corpus lays it out, beside a text of others that has the same splits and documents."""
    source = manifests.load("primer")
    own = passages.split(passages.prepare(source, manifests.fetch(source))[0], (0.45, 0.15, 0.40))
    read = pl.concat([own.with_columns(source=pl.lit("theirs"), text="THEIRS " + pl.col("text")), own])
    return {kind: pairs.make(read, kind) for kind in look.ASKED}, read


def test_a_profile_that_trains_on_the_primer_is_asked_about_held_out_documents_of_it_alone(primer):
    made, read = primer
    asked, pool = look.unseen(made, read)
    assert asked["split"].unique().to_list() == ["test"] and pool["split"].n_unique() == 3
    assert {*asked["source"], *pool["source"]} == {"primer"}
    task = look.task(asked, pool)
    assert not [text for text in [*task.queries, *task.passages] if text.startswith("THEIRS")]


def test_any_other_profile_is_asked_about_all_of_the_primer(primer):
    made, read = primer
    theirs = {kind: frame.filter(source="theirs") for kind, frame in made.items()}
    for others in ((theirs, read.filter(source="theirs")), ({}, NOTHING)):
        asked, pool = look.unseen(*others)
        assert asked["document"].n_unique() == 7 and {*asked["source"], *pool["source"]} == {"primer"}


def test_questions_stand_before_definitions_and_each_has_its_passage_among_all_sentences_and_answers(primer):
    asked, pool = look.unseen({}, NOTHING)
    task = look.task(asked, pool)
    asks = [query.endswith("?") for query in task.queries]
    assert asks == [True] * 40 + [False] * 20 and len(set(task.queries)) == 60
    assert [task.passages[column] for column in task.gold] == asked["positive"].to_list()
    texts = primer[1].filter(pl.col("source") == "primer", pl.col("kind").is_in(["sentence", "answer"]))["text"]
    assert len(task.passages) == len(set(task.passages)) and set(task.passages) == set(texts)


# ---- the page


@pytest.fixture
def body(rows, tmp_path, monkeypatch):
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    look.write("toy", rows)
    return (paths.artifacts("toy") / "tables" / "look.html").read_text(encoding="utf-8")


def listed(page, query, model):
    """Return number and text of each entry of a model's list as a browser numbers them."""
    entries = page.xpath("//details")[query].xpath("div/section")[model].xpath("ol/li")
    return [(int(li.get("value") or n), li.text_content().strip()) for n, li in enumerate(entries, start=1)]


def test_the_page_needs_no_script_and_says_where_the_passage_sought_stands(body):
    page = html.fromstring(body)
    assert not page.xpath("//script|//*[@hidden or @onclick]|//input|//button")
    first, second = page.xpath("//details")
    assert first.get("open") is not None and second.get("open") is None
    assert first.xpath("string(summary/small)") == "Sought passage at place: BM25 3, tuned 5"
    assert [heading.text for heading in first.xpath("div/section/h3")] == ["BM25", "tuned"]
    assert listed(page, 0, 0) == [(1, "d"), (2, "a"), (3, "Sought: c")]
    assert listed(page, 0, 1) == [(1, "b"), (2, "a"), (3, "d"), (5, "Sought passage")]


def test_markup_in_a_text_is_shown_and_not_obeyed(body):
    second = html.fromstring(body).xpath("//details")[1]
    assert second.xpath("summary")[0].text == HOSTILE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "shown", "opened"),
    [
        ("", [True, True], [True, False]),
        ("find=PERICARD", [True, False], [True, False]),  # letters without their accents
        ("find=s+alert", [False, True], [True, True]),  # the one that is left opens
        ("find=sac+alert", [False, False], [True, False]),
    ],
)
def test_letters_in_the_address_leave_the_questions_that_have_them(browse, body, state, shown, opened):
    page = browse("look", body, state)
    entries = page.xpath("//details")
    assert [entry.get("hidden") is None for entry in entries] == shown
    assert [entry.get("open") is not None for entry in entries] == opened
    assert page.xpath("string(//output)") == f"{sum(shown)} of 2 shown"


@pytest.mark.slow
def test_what_is_typed_filters_and_stands_in_the_address(browse, body):
    typed = (
        "field.value = 'sac'; field.dispatchEvent(new Event('input', {bubbles: true})); document.title = location.hash"
    )
    script = f"<script>addEventListener('load', () => {{ const field = document.forms[0].find; {typed} }})</script>"
    page = browse("look", body + script, "")
    assert page.xpath("//details[@hidden]/summary/text()") == [HOSTILE] and page.xpath("string(//title)") == "#find=sac"
    (label,) = page.xpath("//form/label[input[@name='find']]")  # Sphinx's search empties every field named q
    assert label.text == "A few letters of a question" and page.xpath("//output/@aria-live") == ["polite"]
