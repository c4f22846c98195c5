"""Pairs: which texts belong together, checked by hand on a small book, and negatives that are not false ones."""

import time
import zlib

import numpy as np
import polars as pl
import pytest

from cardioembed_study.corpus import pairs
from cardioembed_study.corpus import passages as corpus_passages
from cardioembed_study.retrieval import pools
from cardioembed_study.training import mixture

BOOK = [
    # id, section, kind, terms, text
    ("pump:0", "Pump > Filling", "sentence", [], "Blood enters while the muscle rests."),
    ("pump:1", "Pump > Filling", "sentence", ["preload"], "Stretch at the end of filling is called preload."),
    ("pump:3", "Pump > Filling", "sentence", ["Preloads"], "Giving fluid raises preload again."),  # 2 was removed
    ("pump:4", "Pump > Ejection", "sentence", ["afterload"], "What the muscle works against is the afterload."),
    ("pump:5", "Pump > Ejection", "sentence", [], "Stiff arteries raise it."),
    ("pump:6", "Pump > Terms", "glossary", ["preload"], "Preload: stretch of the wall just before it contracts"),
    ("pump:7", "Pump > Terms", "glossary", ["stroke volume"], "blood that one beat sends out, in millilitres"),
    ("pump:8", "Pump > Terms", "glossary", ["afterloads"], "afterload"),  # nothing is left of it
    ("pump:9", "Pump > Quiz", "question", [], "What raises preload?"),
    ("pump:10", "Pump > Quiz", "answer", [], "Fluid does, and so does lying down."),
    ("pump:11", "Pump > Quiz", "question", [], "Whose answer was removed?"),
    ("pump:13", "Pump > Quiz", "answer", [], "Nobody asked this."),
    ("beat:0", "Beat", "sentence", [], "Each beat starts in the node."),
    ("beat:1", "Beat", "sentence", [], "The node sits high in the atrium."),
    ("beat:2", "Beat", "glossary", ["preload"], "a word that this chapter never introduces in its prose"),
]


def passages(rows=BOOK, source="book", split="train"):
    columns = {**corpus_passages.SCHEMA, "split": pl.String}
    filled = []
    for name, section, kind, terms, text in rows:
        document, position = name.split(":")
        number = f"{source}:{document}:{int(position):05d}"
        filled.append((number, source, document, "cardiology", section, kind, terms, text, split))
    return pl.DataFrame(filled, schema=columns, orient="row")


def pair(anchor, positive, group, document="d0", source="book", split="train"):
    ids = [f"{source}:{document}:{zlib.crc32(text.encode())}" for text in (anchor, positive)]
    return (anchor, positive, [], *ids, group, source, document, "cardiology", split)


def frame(*rows):
    return pl.DataFrame(rows, schema=pairs.SCHEMA, orient="row")


def many(n, documents=5, split="train", source="book"):
    """Return n pairs about one thing each, spread over documents, two to a group."""
    return frame(
        *(
            pair(
                f"what is item{i} of kind{i % 3}",
                f"item{i} is a thing of kind{i % 3}",
                f"g{i // 2}",
                f"d{i // 2 % documents}",
                source,
                split,
            )
            for i in range(n)
        )
    )


# ---- the four kinds


def test_a_definition_belongs_to_the_sentence_that_introduces_its_term():
    found = pairs.make(passages(), "definition")
    assert found.select("anchor", "positive", "group").rows() == [
        (
            "stretch of the wall just before it contracts",
            "Stretch at the end of filling is called preload.",
            "term:preload",
        )
    ]
    assert found.select("anchor_id", "positive_id", "negatives").row(0) == ("book:pump:00006", "book:pump:00001", [])
    assert found.select("source", "document", "topic", "split").row(0) == ("book", "pump", "cardiology", "train")


BARE = [
    # what a book without a glossary says of its terms
    ("pump:0", "Pump", "sentence", [], "Every afterload has a cause, and stiff arteries are one."),
    ("pump:1", "Pump", "sentence", ["afterload"], "What the muscle works against is called its afterload."),
    ("pump:2", "Pump", "sentence", [], "The mitral valve is a door of two leaves on the left."),
    ("pump:3", "Pump", "sentence", [], "It is a door that the pressure of blood shuts."),  # "it" is no term
    ("pump:4", "Pump", "sentence", [], "Mitral valves may leak, and afterloads may rise."),
    ("pump:5", "Pump", "sentence", ["preload"], "Preload is defined as the stretch of the wall before it contracts."),
    ("pump:6", "Pump", "sentence", [], "More fluid gives more preload at first."),
    ("pump:7", "Pump", "sentence", ["preloads"], "Of two preloads the higher gives the stronger beat."),
    (
        "pump:8",
        "Pump",
        "sentence",
        [],
        "Ischaemia is the want of blood in a living tissue.",
    ),  # nobody speaks of it again
    ("pump:9", "Pump", "sentence", [], "Preload is important, and the pulse is felt at the wrist."),  # defines nothing
]


def test_without_a_glossary_what_a_sentence_says_of_a_term_goes_with_another_sentence_that_has_it():
    assert pairs.make(passages(BARE), "definition").select("anchor", "positive_id", "group").rows() == [
        ("What the muscle works against is called its.", "book:pump:00000", "introduced:afterload"),
        ("a door of two leaves on the left.", "book:pump:00004", "introduced:mitral valve"),
        ("the stretch of the wall before it contracts.", "book:pump:00007", "introduced:preload"),  # bold before plain
    ]


def test_a_glossary_of_which_no_entry_finds_its_sentence_is_as_good_as_none():
    stray = ("pump:99", "Pump > Key Terms", "glossary", ["murmur"], "a sound that blood makes where it whirls")
    assert pairs.make(passages([*BARE, stray]), "definition").equals(pairs.make(passages(BARE), "definition"))


@pytest.mark.parametrize("split", ["dev", "test"])
def test_what_stands_in_for_definitions_is_never_asked(split):
    assert pairs.make(passages(BARE, split=split), "definition").is_empty()
    both = pairs.make(pl.concat([passages(), passages(BARE, source="bare")]), "definition")
    assert both["source"].to_list() == ["book", "bare", "bare", "bare"]  # each source by itself
    assert pairs.of_glossary(both)["group"].to_list() == ["term:preload"]


@pytest.mark.parametrize(
    ("sentence", "term"),
    [
        ("An infarct is a scar of the muscle.", "infarct"),
        ("Stents are the tubes that hold arteries open.", "Stents"),
        ("Stroke volume refers to the blood of one beat.", "Stroke volume"),
        ("Warfarin, a kind of anticoagulant, thins blood.", "Warfarin"),
        ("Shock is defined as a want of flow to all organs.", "Shock"),
        ("This is a sign of shock.", None),
        ("Fever is common.", None),
        ("The first of all the signs of it is a murmur.", None),  # too long for a term
        ("At rest, the pulse is a slow one.", None),  # not how the sentence begins
    ],
)
def test_a_definition_is_told_by_how_its_sentence_begins(sentence, term):
    found = pairs.DEFINES.match(sentence)
    assert (found and found["term"]) == term


def test_a_heading_belongs_to_the_first_sentence_under_it():
    found = pairs.make(passages(), "heading")
    assert found.select("anchor", "positive").rows() == [
        ("Pump: Filling", "Blood enters while the muscle rests."),
        ("Pump: Ejection", "What the muscle works against is the afterload."),
        ("Beat", "Each beat starts in the node."),
    ]
    assert found["group"].n_unique() == 3


def test_a_sentence_belongs_to_the_next_unless_one_was_removed_between_or_a_section_ends():
    found = pairs.make(passages(), "adjacent")
    assert found.select("anchor_id", "positive_id").rows() == [
        ("book:pump:00000", "book:pump:00001"),
        ("book:pump:00004", "book:pump:00005"),
        ("book:beat:00000", "book:beat:00001"),
    ]
    assert found["anchor"][0] == "Blood enters while the muscle rests."


def test_a_question_belongs_to_the_answer_after_it():
    found = pairs.make(passages(), "question")
    assert found.select("anchor", "positive").rows() == [
        ("What raises preload?", "Fluid does, and so does lying down.")
    ]


def test_the_same_section_title_in_two_documents_is_two_sections():
    rows = [
        ("a:0", "Summary", "sentence", [], "One."),
        ("b:0", "Summary", "sentence", [], "Two."),
        ("b:1", "Summary", "sentence", [], "Three."),
    ]
    assert pairs.make(passages(rows), "heading")["positive"].to_list() == ["One.", "Two."]
    assert pairs.make(passages(rows), "adjacent").select("anchor", "positive").rows() == [("Two.", "Three.")]


def test_an_unknown_kind_is_named_with_the_known_ones():
    with pytest.raises(KeyError, match="no pairs of kind 'adjacnt'; known: definition, heading, adjacent, question"):
        pairs.make(passages(), "adjacnt")


def test_a_book_without_questions_gives_an_empty_table_of_the_same_columns():
    only = [row for row in BOOK if row[2] == "sentence"]
    made = pairs.make(passages(only), "question")
    assert made.is_empty() and dict(made.schema) == pairs.SCHEMA


@pytest.mark.parametrize(
    ("text", "term", "left"),
    [
        (
            "Preload: stretch of the heart; preload rises with filling",
            "preload",
            "stretch of the heart; rises with filling",
        ),
        ("valve: a flap that opens one way", "valve", "a flap that opens one way"),
        ("a flap; valves open one way", "valve", "a flap; open one way"),
        ("stents and one stent", "stent", "and one"),
        ("a wall that is mid-valve in height", "valve", "a wall that is mid- in height"),
        ("the valvelike fold stays", "valve", "the valvelike fold stays"),
        ("heart failure: too little output", "heart failure", "too little output"),
        ("too little output in Heart  Failure, at rest", "heart failure", "too little output in, at rest"),
        ("QRS (complex): spread through both ventricles", "QRS (complex)", "spread through both ventricles"),
        ("written a.c. for short, unlike abc", "a.c.", "written for short, unlike abc"),
        ("Na+ flows in", "Na+", "flows in"),
        ("a drug (statin) lowers it", "statin", "a drug lowers it"),
        ("statin, a drug", "statin", "a drug"),
        ("pulse – the beat felt at the wrist", "pulse", "the beat felt at the wrist"),
        ("nothing of it here", "preload", "nothing of it here"),
        ("preload", "preload", ""),
        ("arteries carry blood; an artery is thick", "artery", "carry blood; an is thick"),
        ("an artery is thick", "Arteries", "an is thick"),
        ("narrow: stenosis, or many stenoses", "stenosis", "narrow:, or many"),
    ],
)
def test_a_definition_loses_the_term_it_defines(text, term, left):
    assert pairs.without_term(text, term) == left


# ---- several kinds together


def test_general_texts_are_runs_of_one_document_titles_and_questions_of_training_documents():
    frame = pl.concat([passages(), passages(source="other", split="test")])
    texts = mixture.general(frame, each=100, seed=1)
    assert "Blood enters while the muscle rests." in texts
    assert sum(text.startswith("Blood enters") and text.count(".") == 3 for text in texts) == 1
    assert not any("Stiff arteries" in text and "Each beat" in text for text in texts)
    assert "Pump: Filling" in texts and "What is preload?" in texts
    assert "What does stroke volume mean?" in texts
    assert not set(frame.filter(kind="glossary")["text"]) & set(texts)
    assert len(texts) == len(mixture.general(passages(), each=100, seed=1))  # nothing of the test documents
    few = mixture.general(frame, each=2, seed=1)
    assert len(few) == 2 + 2 + 0 + 2 + 2 and few == mixture.general(frame, each=2, seed=1)


def test_no_pair_at_all_is_said_with_what_to_write_instead():
    none = frame(pair("a", "P", "x")).clear()
    for failed in (lambda: mixture.mix([none, none]), lambda: pools.from_pairs("dev", none, none)):
        with pytest.raises(
            ValueError, match=r"0 pairs to .*, wanted at least 1; .* name another kind first in 'pairs' of"
        ):
            failed()


def test_groups_hold_across_kinds_by_chains():
    first = frame(pair("a0", "P", "x"), pair("a1", "Q", "x"), pair("a2", "R", "y"))
    second = frame(pair("b0", "Q", "z"), pair("b1", "S", "z"), pair("b2", "T", "w"))
    groups = mixture.mix([first, second])["group"].to_list()
    assert len(set(groups)) == 3
    assert groups[0] == groups[1] == groups[3] == groups[4]  # x joins a0 and a1; Q joins a1 and b0; z joins b0 and b1
    assert len({groups[0], groups[2], groups[5]}) == 3


def test_a_sentence_that_is_anchor_and_positive_is_no_negative_of_itself():
    neighbours = frame(pair("s1", "s2", "p1"), pair("s2", "s3", "p2"), pair("s8", "s9", "p8"))
    groups = mixture.mix([neighbours])["group"].to_list()
    assert groups[0] == groups[1] != groups[2]


def test_a_sentence_and_a_passage_that_it_is_in_are_no_negatives_of_each_other():
    sentences = pairs.make(passages(), "adjacent")
    of_query = pl.DataFrame(pair("q", "Three sentences.", "other"), schema=pairs.SCHEMA, orient="row")
    for first, joined in (("book:pump:00001+3", 2), ("book:pump:00001+2", 1), ("book:pump:00006+2", 0)):
        groups = mixture.mix([of_query.with_columns(positive_id=pl.lit(first)), sentences])["group"].to_list()
        assert sum(group == groups[0] for group in groups[1:]) == joined


def test_a_sentence_of_which_an_anchor_was_made_is_no_negative_of_that_anchor():
    made = frame(
        pair("what it says", "B", "introduced:a"), pair("x", "A", "introduced:b"), pair("y", "C", "introduced:c")
    )
    made = made.with_columns(anchor_id=pl.Series([made["positive_id"][1], "x", "y"]))
    groups = mixture.mix([made])["group"].to_list()
    assert groups[0] == groups[1] != groups[2]


def test_the_limit_is_for_each_table_and_drawn_by_the_seed():
    tables = [many(20), many(6)]
    assert len(mixture.mix(tables)) == 26
    mixed = mixture.mix(tables, limit=8, seed=1)
    assert len(mixed) == 14
    assert mixed.equals(mixture.mix(tables, limit=8, seed=1))
    assert not mixed.equals(mixture.mix(tables, limit=8, seed=2))
    kept = mixed["anchor"][:8].to_list()
    assert kept == [anchor for anchor in tables[0]["anchor"] if anchor in kept]  # reading order stays


# ---- negatives


def test_distant_negatives_are_of_another_document_and_group_but_the_same_source_and_split():
    tables = [many(40), many(30, source="other"), many(30, split="dev")]
    found = mixture.with_negatives(pl.concat(tables), "random_distant", seed=4)
    for row in found.iter_rows(named=True):
        (negative,) = row["negatives"]
        origin = found.filter(positive=negative, source=row["source"], split=row["split"])
        assert len(origin) == 1
        assert origin["document"][0] != row["document"]
        assert origin["group"][0] != row["group"]


def test_texts_of_another_source_or_split_are_never_negatives():
    tables = [
        many(12, source=s, split=p).with_columns(pl.col("positive") + f" {s} {p}")
        for s in "ab"
        for p in ("train", "dev")
    ]
    for how in ("random_distant", "mined"):
        for row in mixture.with_negatives(pl.concat(tables), how, seed=0).iter_rows(named=True):
            assert row["negatives"][0].endswith(f" {row['source']} {row['split']}")


def test_a_text_that_is_also_a_positive_of_the_group_is_no_negative():
    table = frame(
        pair("one", "shared words", "g0", "d0"),
        pair("two", "shared words", "g1", "d1"),
        pair("three", "something else", "g2", "d2"),
    )
    for how in ("random_distant", "mined"):
        for seed in range(8):
            found = mixture.with_negatives(mixture.mix([table]), how, seed=seed)
            assert found["negatives"].to_list()[:2] == [["something else"]] * 2


def test_the_mined_negative_is_the_nearest_in_words_that_is_not_right():
    table = frame(
        pair("mitral valve leaks blood backwards", "a mitral valve leaks blood backwards slowly", "g0", "d0"),
        pair("another of the group", "mitral valve leaks blood backwards often", "g0", "d0"),
        pair("tricuspid", "the mitral valve opens", "g1", "d1"),
        pair("rhythm", "rhythm is set by a node", "g2", "d1"),
        pair("pulse", "a pulse felt at the wrist", "g3", "d2"),
    )
    found = mixture.with_negatives(table, "mined", seed=0)
    assert found["negatives"][0].to_list() == ["the mitral valve opens"]
    assert found.drop("negatives").equals(table.drop("negatives"))


def test_a_candidate_nearly_as_near_as_the_positive_is_left_out():
    table = frame(
        pair("mitral valve leaks", "mitral valve leaks today", "g0", "d0"),
        pair("x", "mitral valve leaks again", "g1", "d1"),  # as near as the positive: perhaps right too
        pair("y", "valve repair helps", "g2", "d2"),
        pair("z", "rhythm of the node", "g3", "d3"),
    )
    strict, lenient = (mixture.with_negatives(table, how, seed=0)["negatives"][0][0] for how in ("mined", "bm25:num=1"))
    assert strict == "valve repair helps"
    assert lenient == "mitral valve leaks again"


def test_an_anchor_without_a_common_word_still_gets_a_wrong_text_as_negative():
    table = frame(
        pair("alpha", "beta gamma", "g0", "d0"),
        pair("delta", "alpha epsilon", "g1", "d1"),
        pair("omega", "zeta eta", "g2", "d2"),
    )
    found = mixture.with_negatives(table, "mined", seed=0)
    for row in found.iter_rows(named=True):
        assert row["negatives"][0] != row["positive"]


def test_where_all_candidates_stand_nearer_than_the_positive_the_farthest_is_taken():
    table = frame(
        pair("mitral valve", "a murmur", "g0", "d0"),
        pair("x", "mitral valve repair", "g1", "d1"),
        pair("y", "valve replacement and what follows", "g2", "d1"),
    )
    assert mixture.with_negatives(table, "mined", seed=0)["negatives"][0][0] == "valve replacement and what follows"


@pytest.mark.parametrize("how", ["random_distant", "mined"])
def test_where_all_pairs_are_of_one_group_there_is_no_negative_and_it_is_said(how):
    table = frame(pair("a", "same text", "g", "d0"), pair("b", "same words", "g", "d1"))
    with pytest.raises(ValueError, match=r"source book, split train: too few pairs of another .* than 'g'"):
        mixture.with_negatives(table, how, seed=0)


def test_no_negatives_leaves_the_table_alone():
    assert mixture.with_negatives(many(6), "none", seed=0).equals(many(6))


@pytest.mark.parametrize("how", ["random_distant", "mined"])
def test_a_source_of_one_document_is_refused(how):
    with pytest.raises(ValueError, match="source book, split train: one document, so no negative is distant"):
        mixture.with_negatives(many(6, documents=1), how, seed=0)


def test_unknown_negatives_are_named_with_the_known_ones():
    with pytest.raises(ValueError, match="negatives is 'hard'; wanted 'none', 'random_distant' or 'mined', or 'bm25'"):
        mixture.with_negatives(many(6), "hard", seed=0)


@pytest.mark.parametrize("how", ["random_distant", "mined"])
def test_the_same_seed_gives_the_same_file(tmp_path, how):
    def written(name, seed):
        table = mixture.with_negatives(
            mixture.mix([many(60), many(30, source="b")], limit=25, seed=seed), how, seed=seed
        )
        table.write_parquet(tmp_path / name)
        return (tmp_path / name).read_bytes()

    assert written("one", 3) == written("two", 3)
    assert written("one", 3) != written("three", 4)


def test_mining_grows_with_the_square_of_the_pairs_and_no_faster():
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(8000)])
    taken = []
    for n in (1_000, 2_000):
        texts = [" ".join(row) for row in words[np.minimum(rng.zipf(1.3, (2 * n, 22)), 8000) - 1]]
        table = frame(*(pair(texts[i], texts[n + i], f"g{i}", f"d{i % 50}") for i in range(n)))
        started = time.process_time()
        mined = mixture.with_negatives(table, "mined", seed=0)
        taken.append(time.process_time() - started)
        assert mined["negatives"].list.len().unique().to_list() == [1]
    assert taken[1] < 6 * taken[0]


def test_pairs_of_notes_keep_their_patient_though_two_patients_have_a_note_in_the_same_words():
    row = dict.fromkeys(pairs.SCHEMA, "x") | {"negatives": [], "anchor": "no acute change", "codes": ["4280"]}
    frame = pl.DataFrame([row | {"group": "patient1"}, row | {"group": "patient2"}])
    assert mixture.mix([frame])["group"].to_list() == ["patient1", "patient2"]
    assert mixture.mix([frame.drop("codes")])["group"].n_unique() == 1
