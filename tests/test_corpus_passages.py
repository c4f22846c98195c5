"""Every sentence is counted, only true repeats go, and no document is in two splits."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from cardioembed_study.corpus import manifests, pairs, shingles
from cardioembed_study.corpus import passages as corpus_passages

BOOK = """# Pump

## Walls

The **septum** divides the heart into two sides. Short one. Watch this video to see it move.

The Septum divides the heart  into two sides.

## Glossary

- **septum**: wall between sides

## Questions

**Q:** Why?

**A:** Flow.
"""


def source(**fields):
    return SimpleNamespace(**{"name": "book", "format": "markdown", "cardiology": ("one.md",), **fields})


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "documents", lambda _: ["one.md", "sub/two.md"])
    (tmp_path / "sub").mkdir()
    (tmp_path / "one.md").write_text(BOOK)
    (tmp_path / "sub/two.md").write_text("One sentence stands alone here.")
    return corpus_passages.prepare(source(), tmp_path)


def passages(texts, kind="sentence", **columns):
    n = len(texts)
    defaults = {"source": ["s"] * n, "document": ["d"] * n, "topic": ["t"] * n, "section": ["x"] * n, "terms": [[]] * n}
    data = {
        "passage_id": [f"s:d:{k:05d}" for k in range(n)],
        "kind": [kind] * n if isinstance(kind, str) else kind,
        **defaults,
        "text": texts,
        **columns,
    }
    return pl.DataFrame({name: data[name] for name in corpus_passages.SCHEMA}, schema=corpus_passages.SCHEMA)


def library(n_documents, topic="cardiology", name="s"):
    columns = {"document": [f"d{k}" for k in range(n_documents)], "topic": [topic] * n_documents}
    ids = [f"{name}:d{k}:00000" for k in range(n_documents)]
    texts = [f"Document {k} says this." for k in range(n_documents)]
    return passages(texts, passage_id=ids, source=[name] * n_documents, **columns)


def test_passages_keep_their_place_and_their_terms(prepared):
    frame, _ = prepared
    assert dict(frame.schema) == corpus_passages.SCHEMA
    assert frame.select("passage_id", "kind", "terms").rows()[:3] == [
        ("book:one:00000", "sentence", ["septum"]),
        ("book:one:00003", "sentence", []),
        ("book:one:00004", "glossary", ["septum"]),
    ]
    assert frame["section"][0] == "Pump > Walls"
    assert frame.group_by("document", "topic").len().sort("document").rows() == [
        ("one", "cardiology", 5),
        ("sub/two", "other", 1),
    ]


def test_every_sentence_is_counted_kept_or_not(prepared):
    frame, counts = prepared
    wanted = {"documents": 2, "sentences_raw": 5, "too_short": 1, "noise": 1, "sentences": 3}
    assert {key: counts[key] for key in wanted} == wanted
    assert counts["glossary"] == counts["questions"] == counts["answers"] == counts["blocks_glossary"] == 1
    assert frame.height == counts["sentences"] + 3


def book_with_a_glossary_at_its_back():
    """Return three chapters and, as a document of its own, the glossary of their ten terms and of one that none introduces."""
    said = [
        (f"d{n % 3}", "other" if n % 3 else "cardiology", f"Sentence {n} speaks of the part{n}.", [f"part{n}"])
        for n in range(10)
    ]
    said.append(("d2", "other", "A later chapter speaks of part0 once more.", ["Part0"]))
    entries = [("back", "other", f"meaning of number {n}, in other words", [f"part{n}"]) for n in range(11)]
    own = ("back", "other", "Here the terms of this book stand.", [])
    rows = [*sorted(said, key=lambda row: row[0]), own, *entries]
    document, topic, text, terms = map(list, zip(*rows, strict=True))
    kind = ["sentence"] * (len(said) + 1) + ["glossary"] * len(entries)
    ids = [f"s:{name}:{n:05d}" for n, name in enumerate(document)]
    return passages(text, kind, passage_id=ids, document=document, topic=topic, terms=terms)


def test_an_entry_at_the_back_of_the_book_belongs_to_the_document_that_introduces_its_term_first():
    frame = book_with_a_glossary_at_its_back()
    placed = corpus_passages.with_entries_placed(frame)
    assert set(placed["document"]) == {"d0", "d1", "d2"}  # so the glossary is in no split
    assert placed.filter(kind="sentence").equals(frame.filter(kind="sentence").filter(pl.col("document") != "back"))
    entries = placed.filter(kind="glossary")
    assert entries["terms"].list.first().to_list() == [f"part{n}" for n in range(10)]  # nobody introduces the eleventh
    assert entries["document"].to_list() == [f"d{n % 3}" for n in range(10)]
    assert entries.filter(document="d0")["topic"].unique().to_list() == ["cardiology"]
    assert entries["passage_id"][0].startswith("s:back:") and entries["section"][0] == "x > x"


def test_pairs_with_a_glossary_at_the_back_keep_to_the_split_of_their_sentence_and_no_term_is_in_two():
    placed = corpus_passages.with_entries_placed(book_with_a_glossary_at_its_back())
    place = {"d0": "train", "d1": "dev", "d2": "test"}
    made = pairs.make(placed.with_columns(split=pl.col("document").replace_strict(place)), "definition")
    of_sentence = made["positive_id"].str.split(":").list.get(1)
    assert len(made) == 10 and made["document"].to_list() == of_sentence.to_list()
    assert made["split"].to_list() == [place[document] for document in made["document"]]
    assert made["group"].is_unique().all()
    assert made.filter(group="term:part0").select("positive", "split").row(0) == (
        "Sentence 0 speaks of the part0.",
        "train",
    )


def test_an_entry_at_the_back_joins_the_chapter_that_has_an_entry_of_the_term_already():
    frame = book_with_a_glossary_at_its_back()
    own = passages(["what part0 means, as this chapter says"], "glossary", document=["d2"], terms=[["part0"]])
    placed = corpus_passages.with_entries_placed(pl.concat([frame, own]))
    entries = placed.filter(pl.col("terms").list.contains("part0"), kind="glossary")
    assert entries["document"].to_list() == ["d2", "d2"]  # though d0 introduces the term first
    assert placed.filter(pl.col("terms").list.contains("part3"), kind="glossary")["document"].to_list() == ["d0"]


def test_an_entry_at_the_back_that_training_repeats_is_a_leak_where_its_chapter_is_held_out():
    placed = corpus_passages.with_entries_placed(book_with_a_glossary_at_its_back())
    again = passages(
        ["meaning of number 2, in other words", "meaning of number 1, in other words"], document=["e", "e"]
    )
    frame = pl.concat([placed, again.with_columns(passage_id=pl.Series(["s:e:0", "s:e:1"]))])
    frame = frame.with_columns(split=pl.when(document="d2").then(pl.lit("test")).otherwise(pl.lit("train")))
    assert corpus_passages.near_duplicate_audit(frame)["passage_id"].to_list() == ["s:e:0"]  # d1 is learnt from


def test_glossaries_of_chapters_and_a_source_of_entries_alone_stay_as_they_are(prepared):
    frame = prepared[0]
    assert corpus_passages.with_entries_placed(frame).equals(frame)
    alone = passages(["meaning of it", "meaning of another"], "glossary", terms=[["a"], ["b"]])
    assert corpus_passages.with_entries_placed(alone).equals(alone)


def test_a_book_is_read_with_its_glossary_at_the_back_and_what_is_left_out_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "documents", lambda _: ["book.html"])
    chapters = "".join(f"<h1>Chapter {n}</h1><p>The <b>part{n}</b> is what chapter {n} speaks of.</p>" for n in (1, 2))
    entries = "".join(f"<p><b>part{n}</b>: a meaning with the number {n}</p>" for n in (1, 2, 3))
    (tmp_path / "book.html").write_text(f"{chapters}<h1>Glossary</h1><h2>P–Q</h2>{entries}")
    book = source(cardiology=("book.html#02-chapter-2",), format="html")
    with pytest.warns(UserWarning, match="chapters found: 2, wanted: at least 3"):  # the glossary is none
        frame, counts = corpus_passages.prepare(book, tmp_path)
    entries = frame.filter(kind="glossary").select("document", "topic", "section")
    assert entries.rows() == [
        ("book.html#01-chapter-1", "other", "Chapter 1 > Glossary > P–Q"),
        ("book.html#02-chapter-2", "cardiology", "Chapter 2 > Glossary > P–Q"),
    ]
    assert counts["glossary"] == 3 and counts["left_out"] == 1 and counts["documents"] == frame["document"].n_unique()


def test_two_files_of_which_the_documents_would_have_one_name_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "documents", lambda _: ["a.md", "b.md", "a/index.md"])
    with pytest.raises(ValueError, match=r"book: a\.md and a/index\.md would both be document 'a'; rename one"):
        corpus_passages.prepare(source(), tmp_path)


def test_a_missing_document_is_named_with_the_next_step(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "documents", lambda _: ["gone.md"])
    with pytest.raises(FileNotFoundError, match=r"gone\.md is missing; manifest book lists it: fetch the source again"):
        corpus_passages.prepare(source(), tmp_path)


def test_a_document_that_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "documents", lambda source: ["line.md"])
    with (tmp_path / "line.md").open("wb") as file:
        file.truncate(200_000_000)  # one line of zeros, which take no place on the disk
    with pytest.raises(ValueError, match=r"line\.md has 200,000,000 bytes, wanted at most 33,554,432; divide it"):
        corpus_passages.prepare(source(), tmp_path)


def test_the_first_of_exact_repeats_is_kept_whatever_its_case_and_spaces(prepared):
    kept, counts = corpus_passages.deduplicate(prepared[0])
    assert counts == {"exact_duplicates": 1, "near_duplicates": 0, "kept": 5}
    assert "book:one:00000" in kept["passage_id"].to_list()


def test_questions_repeat_only_with_their_answers():
    texts = ["Why?", "Flow.", "Why?", "Pressure.", "why?", "flow."]
    kept, counts = corpus_passages.deduplicate(passages(texts, kind=["question", "answer"] * 3))
    assert kept["text"].to_list() == texts[:4]
    assert counts["exact_duplicates"] == 2


def test_glossary_entries_repeat_only_with_their_terms():
    frame = passages(["a wall"] * 3, kind="glossary", terms=[["septum"], ["paries"], ["Septum"]])
    assert corpus_passages.deduplicate(frame)[0]["terms"].to_list() == [["septum"], ["paries"]]


WORDS = [a + b + c for a in "bcdfghjk" for b in "aeiou" for c in "lmnprst"]
LONG = " ".join(WORDS[:60])
LEAD = "A patient who takes a drug that slows the node and widens small vessels as well as large ones should"


def test_near_repeats_go_and_a_negation_or_a_side_stays():
    short = "The pressure in the {} ventricle does {}rise when the valve between it and the vessel is narrow."
    texts = [LONG, LONG + " too", short.format("left", ""), short.format("right", ""), short.format("left", "not ")]
    kept, counts = corpus_passages.deduplicate(passages(texts))
    assert kept["text"].to_list() == [texts[0], *texts[2:]]
    assert counts["near_duplicates"] == 1


@pytest.mark.parametrize("other", ["{} not:", "{} 5:", "{} never:", "{} without:", "{} left:"])
def test_one_word_more_at_the_end_keeps_both_if_it_turns_the_meaning(other):
    texts = [f"{LEAD} {LONG}:", other.format(f"{LEAD} {LONG}")]
    assert corpus_passages.deduplicate(passages(texts))[1]["near_duplicates"] == 0


def test_near_repeats_are_sought_among_sentences_only():
    assert corpus_passages.deduplicate(passages([LONG, LONG + " too"], kind="answer"))[1]["near_duplicates"] == 0


def same(one, other):
    return shingles.same_meaning(shingles.words(one), shingles.words(other))


def brute_force(texts, threshold):
    sets, kept, found = [shingles.shingle_set(shingles.words(text)) for text in texts], [], set()
    for n, own in enumerate(sets):
        if any(shingles.jaccard(own, sets[k]) >= threshold and same(texts[n], texts[k]) for k in kept):
            found.add(n)
        else:
            kept.append(n)
    return found


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_repeats_are_those_of_an_exhaustive_comparison(threshold):
    draw = np.random.default_rng(3)
    base = [draw.integers(0, 279, size=size) for size in draw.integers(1, 50, size=150)]
    changed = [np.where(draw.random(len(b)) < 0.02, 279, b) for b in base for _ in range(2)]
    texts = [" ".join(WORDS[k] for k in b) for b in base + changed]
    found = shingles.repeats(texts, threshold, seed=1)
    assert set(found) == brute_force(texts, threshold)
    assert found == shingles.repeats(texts, threshold, seed=1)


def test_chance_collisions_remove_nothing():
    texts = [f"alpha{n} beta{n} gamma{n} delta{n}" for n in range(3000)]
    assert shingles.repeats(texts, 0.9, seed=1) == {}


def test_an_empty_frame_and_texts_of_one_word_are_no_special_case():
    assert corpus_passages.deduplicate(passages([]))[1] == {"exact_duplicates": 0, "near_duplicates": 0, "kept": 0}
    assert shingles.repeats(["Yes", "no", "yes", ""], 0.9, seed=1) == {2: (0, 1.0)}


@pytest.mark.parametrize("threshold", [0, 1.1])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match=f"threshold is {threshold}; wanted above 0 and at most 1"):
        shingles.repeats(["a"], threshold, seed=1)


def test_twice_the_sentences_are_twice_the_comparisons(monkeypatch):
    draw, compared, jaccard = np.random.default_rng(0), [], shingles.jaccard
    monkeypatch.setattr(shingles, "jaccard", lambda a, b: compared.append(1) or jaccard(a, b))
    for n in (200, 400):
        texts = [" ".join(map(str, draw.integers(0, 5000, size=20))) for _ in range(n)]
        compared.clear()
        assert len(shingles.repeats(texts + texts, 0.9, seed=1)) == n
        assert n <= len(compared) < 1.1 * n  # each repeat with its own first one, hardly anything else


def test_no_document_is_in_two_splits():
    frame = pl.concat([library(20), library(20)]).with_columns(passage_id=pl.int_range(40).cast(pl.String))
    assert (
        corpus_passages.split(frame).group_by("document").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 20
    )


def test_every_stratum_of_three_or_more_has_test_and_dev_documents():
    frame = pl.concat([library(3, "cardiology"), library(2, "other"), library(50, "cardiology", "t")])
    frame = corpus_passages.split(frame).group_by("source", "topic", "split").len().sort("source", "topic", "split")
    assert frame.rows() == [
        ("s", "cardiology", "dev", 1),
        ("s", "cardiology", "test", 1),
        ("s", "cardiology", "train", 1),
        ("s", "other", "train", 2),
        ("t", "cardiology", "dev", 5),
        ("t", "cardiology", "test", 5),
        ("t", "cardiology", "train", 40),
    ]


def test_splits_do_not_depend_on_the_order_of_rows_but_on_the_seed():
    frame = library(40)
    where = corpus_passages.split(frame).sort("passage_id")
    assert where.equals(corpus_passages.split(frame.reverse()).sort("passage_id"))
    assert not where.equals(corpus_passages.split(frame, seed=18).sort("passage_id"))
    assert corpus_passages.split(frame)["passage_id"].equals(frame["passage_id"])


@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_that_are_not_shares_are_refused(fractions):
    with pytest.raises(ValueError, match="wanted three"):
        corpus_passages.split(library(3), fractions)


def test_a_share_of_nothing_is_nothing():
    assert set(corpus_passages.split(library(10), (0.9, 0.1, 0.0))["split"]) == {"train", "dev"}


def test_the_audit_returns_train_rows_that_repeat_held_out_ones_of_any_kind():
    texts = [LONG, "a wall between sides", LONG + " too", "A wall, between sides!", "something else", "something else"]
    splits = ["test", "dev", "train", "train", "train", "train"]
    frame = passages(texts, kind=["sentence", "glossary", "sentence", "answer", "sentence", "sentence"])
    found = corpus_passages.near_duplicate_audit(frame.with_columns(split=pl.Series(splits)))
    assert found.select("passage_id", "match_id").rows()[:2] == [("s:d:00002", "s:d:00000"), ("s:d:00003", "s:d:00001")]
    assert found["jaccard"].to_list()[:2] == pytest.approx([58 / 59, 1.0])


def test_the_audit_takes_the_other_half_of_a_pair_along():
    frame = passages(["Why?", "Flow.", "Why?", "Pressure."], kind=["question", "answer"] * 2)
    found = corpus_passages.near_duplicate_audit(
        frame.with_columns(split=pl.Series(["test", "test", "train", "train"]))
    )
    assert found["passage_id"].to_list() == ["s:d:00002", "s:d:00003"]
