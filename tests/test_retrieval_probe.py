"""Same from opposite: the probe as data, and what is made of it by hand, at the limits and in any order."""

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cardioembed_lib import encoder as encoders
from cardioembed_lib import metrics
from cardioembed_study.retrieval import probe as retrieval_probe

PROBE = retrieval_probe.load()
FIELDS = ("anchor", "paraphrase", "contradiction")


def words(text):
    return set(re.findall(r"\w+", text.lower()))


def overlap(item, field):
    a, b = words(item.anchor), words(getattr(item, field))
    return len(a & b) / len(a | b)


def item(number, anchor, paraphrase, contradiction, category="negation"):
    return retrieval_probe.Item(
        id=f"{category}-{number:03}",
        category=category,
        anchor=anchor,
        paraphrase=paraphrase,
        contradiction=contradiction,
    )


def line(**changes):
    right = {"id": "drug-001", "category": "drug", "anchor": "a b", "paraphrase": "c d", "contradiction": "a e"}
    return json.dumps({k: v for k, v in (right | changes).items() if v is not None})


HEART = (
    item(1, "the heart pumps blood", "the heart pumps blood to arteries", "a murmur after exercise"),
    item(2, "a valve opens", "a valve opens in ventricle", "the pressure is not in veins", "direction"),
    item(3, "the patient had pain", "pain of the patient", "walk in garden", "direction"),
    item(4, "stent failure", "failure of stent", "pulse closes atrium"),
)


# the probe as data


def test_the_probe_has_more_than_sixty_items_of_each_category():
    counts = Counter(i.category for i in PROBE)
    assert len(PROBE) >= 320
    assert set(counts) == {"negation", "laterality", "number", "drug", "direction"}
    assert min(counts.values()) >= 64


def test_no_text_of_the_probe_comes_twice_and_none_is_too_short_or_too_long():
    texts = [getattr(i, field) for i in PROBE for field in FIELDS]
    assert len(set(texts)) == 3 * len(PROBE)
    assert [text for text in texts if not 20 <= len(text) <= 200] == []
    assert [text for text in texts if text != " ".join(text.split())] == []


def test_items_are_numbered_in_the_order_of_the_file():
    counts = Counter()
    for i in PROBE:
        counts[i.category] += 1
        assert i.id == f"{i.category}-{counts[i.category]:03}"


def test_in_every_item_the_contradiction_shares_more_words_with_the_anchor_than_the_paraphrase_does():
    assert [i.id for i in PROBE if overlap(i, "paraphrase") >= overlap(i, "contradiction")] == []


def test_the_readme_states_counts_and_overlaps_as_they_are():
    text = " ".join((retrieval_probe.PROBE.parent / "README.md").read_text(encoding="utf-8").split())
    assert f"holds {len(PROBE)} items" in text
    for category, n in Counter(i.category for i in PROBE).items():
        assert f"`{category}` ({n})" in text
    near, far = (100 * np.mean([overlap(i, field) for i in PROBE]) for field in ("paraphrase", "contradiction"))
    choice = retrieval_probe.measure_lexical(PROBE, 17)["metrics"]["choice"]
    whole, side = (100 * (choice[name]["accuracy"] + choice[name]["ties"] / 2) for name in ("all", "laterality"))
    assert f"right in {whole:.0f} % of all items, and in {side:.0f} % of those on laterality" in text
    assert f"paraphrase share {near:.0f} % of their words, anchor and contradiction {far:.0f} %" in text


# reading


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (line(id="drug-002", anchor="x", answer="y"), "p.jsonl:2: field 'answer': Extra inputs are not permitted"),
        (line(id="drug-002", anchor=None), "p.jsonl:2: field 'anchor': Field required"),
        (line(id="drug-002", anchor=" "), "p.jsonl:2: field 'anchor': String should match"),
        (line(id="drug-002", anchor=3), "p.jsonl:2: field 'anchor': Input should be a valid string"),
        (line(id="drug-002", category="drugs"), "p.jsonl:2: field 'category': Input should be 'negation', "),
        (line(id="number-002", anchor="x"), "p.jsonl:2: id 'number-002' does not begin with its category, 'drug'"),
        (line(id="drug-002", anchor="c d"), "p.jsonl:2: anchor, paraphrase and contradiction must be three different"),
        (line(anchor="x"), "p.jsonl:2: id 'drug-001' stands in line 1 already"),
        (line(id="drug-002"), "p.jsonl:2: anchor 'a b' stands in line 1 already"),
        ('{"id": "drug-002"', "p.jsonl:2: Invalid JSON"),
    ],
)
def test_a_wrong_line_is_named_by_file_line_and_field(tmp_path, second, message):
    file = tmp_path / "p.jsonl"
    file.write_text(f"{line()}\n{second}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        retrieval_probe.load(file)


def test_an_empty_or_missing_probe_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="restore it from the repository"):
        retrieval_probe.load(tmp_path / "p.jsonl")
    (tmp_path / "p.jsonl").touch()
    with pytest.raises(ValueError, match=r"p\.jsonl holds no item"):
        retrieval_probe.load(tmp_path / "p.jsonl")


# measuring


def test_the_choice_turns_the_question_round():
    """A paraphrase that shares one word with the anchor only: far from both, yet nearer to the right one."""
    items = [item(n, f"aa{n} bb{n} cc{n}", f"aa{n} dd{n}", f"ee{n} bb{n} cc{n}") for n in (1, 2, 3)]
    found = retrieval_probe.measure_lexical(items, 17)["metrics"]
    assert found["probe"]["all"]["accuracy"] == 0.0
    assert found["choice"]["all"]["accuracy"] == 1.0


def test_numbers_are_those_of_vectors_encoded_one_by_one(tiny_bert):
    """The long way: every text alone, cosines by the dot product, means by hand."""
    encoder = tiny_bert()
    found = retrieval_probe.measure(encoder, HEART, seed=17)
    one = {text: encoders.encode(encoder, [text])[0] for i in HEART for text in (getattr(i, f) for f in FIELDS)}
    similar = [float(one[i.anchor] @ one[i.paraphrase]) for i in HEART]
    negated = [float(one[i.anchor] @ one[i.contradiction]) for i in HEART]
    separation, probe = found["metrics"]["separation"], found["metrics"]["probe"]
    assert separation["similar"] == pytest.approx(np.mean(similar), abs=1e-6)
    assert separation["negated"] == pytest.approx(np.mean(negated), abs=1e-6)
    assert separation["negated_gap"] == pytest.approx(np.mean(similar) - np.mean(negated), abs=1e-6)
    assert separation["separation"] == pytest.approx(separation["similar"] - separation["different"], abs=1e-6)
    crossed = [float(one[i.paraphrase] @ one[i.contradiction]) for i in HEART]
    assert found["metrics"]["choice"]["all"]["accuracy"] == np.mean(np.array(similar) > crossed)
    right = [s > n for s, n in zip(similar, negated, strict=True)]
    assert probe["all"]["accuracy"] == np.mean(right)
    assert probe["direction"]["accuracy"] == np.mean(right[1:3])
    assert found["counts"] == {"negation": 2, "direction": 2, "all": 4}
    assert list(probe) == ["negation", "direction", "all"]


def test_a_paraphrase_of_the_same_tokens_is_always_closer(tiny_bert):
    """Words outside the vocabulary are one token to this encoder, so such a paraphrase has the anchor's own vector."""
    items = [
        item(n, f"the heart {a}", f"the heart {b}", "a valve closes") for n, a, b in ((1, "x", "y"), (2, "z", "q"))
    ]
    found = retrieval_probe.measure(tiny_bert(), [*items, item(3, "a murmur k", "a murmur l", "pain")], seed=17)[
        "metrics"
    ]
    assert found["probe"]["all"] == found["choice"]["all"] == {"accuracy": 1.0, "low": 1.0, "high": 1.0, "ties": 0.0}
    assert found["separation"]["similar"] == pytest.approx(1, abs=1e-6)
    assert found["separation"]["negated_gap_low"] > 0


def test_an_encoder_that_gives_all_texts_one_vector_gets_nothing_right(tiny_bert):
    """All ties: each counts against us, although rounding may put the paraphrase ahead in the last bit."""
    items = [item(n, f"x{n} y{n}", f"z{n} q{n}", f"r{n} s{n}") for n in range(1, 20)]
    found = retrieval_probe.measure(tiny_bert(), items, seed=17)["metrics"]
    assert found["probe"]["all"] == found["choice"]["all"] == {"accuracy": 0.0, "low": 0.0, "high": 0.0, "ties": 1.0}
    for key in ("separation", "negated_gap"):
        assert [found["separation"][f"{key}{end}"] for end in ("", "_low", "_high")] == pytest.approx(
            [0, 0, 0], abs=1e-6
        )


def test_the_last_bit_decides_nothing():
    half = np.full(4, 0.5, dtype=np.float32)
    nearly = np.nextafter(half, np.float32(1))
    for closer, farther in ((nearly, half), (half, nearly), (half, half)):
        found = retrieval_probe._accuracy(closer, farther, seed=17)
        assert (found["accuracy"], found["ties"]) == (0.0, 1.0)
    assert retrieval_probe._accuracy(half + np.float32(1e-5), half, seed=17)["accuracy"] == 1.0


def test_order_of_the_items_does_not_matter(tiny_bert):
    encoder = tiny_bert()
    forwards, backwards = (retrieval_probe.measure(encoder, items, 17) for items in (HEART, HEART[::-1]))
    assert forwards == backwards
    assert retrieval_probe.measure_lexical(PROBE, 17) == retrieval_probe.measure_lexical(PROBE[::-1], 17)


def test_prompts_of_the_model_are_left_out(tiny_bert):
    prompted = replace(tiny_bert(), prompts={"query": "walk in garden ", "document": "pain "})
    assert retrieval_probe.measure(prompted, HEART, 17) == retrieval_probe.measure(tiny_bert(), HEART, 17)


def test_different_pairs_are_a_round_trip_through_all_items():
    partners = retrieval_probe._partners(50, seed=17)
    place, visited = 0, []
    for _ in range(50):
        visited.append(place)
        place = partners[place]
    assert sorted(visited) == list(range(50)) and place == 0
    assert not np.array_equal(partners, retrieval_probe._partners(50, seed=18))


def test_another_seed_draws_other_different_pairs_and_leaves_the_rest(tiny_bert):
    one, other = (retrieval_probe.measure_lexical(PROBE, seed)["metrics"] for seed in (17, 18))
    assert one["separation"]["different"] != other["separation"]["different"]
    assert one["separation"]["similar"] == other["separation"]["similar"]
    assert one["probe"]["all"]["accuracy"] == other["probe"]["all"]["accuracy"]


def test_every_cosine_is_counted_between_fixed_edges(tiny_bert):
    for found in (retrieval_probe.measure(tiny_bert(), HEART, 17), retrieval_probe.measure_lexical(HEART, 17)):
        cosines = found["metrics"]["cosines"]
        assert (len(cosines["edges"]), cosines["edges"][0], cosines["edges"][-1]) == (41, -0.2, 1.0)
        assert np.diff(cosines["edges"]) == pytest.approx(0.03)
        for kind in ("similar", "different", "negated"):
            assert len(cosines[kind]) == 40 and sum(cosines[kind]) == len(HEART)


def test_cosines_outside_the_edges_are_in_the_end_cells():
    counts = retrieval_probe._histogram(np.array([-0.9, -0.2, 0.115, 0.999, 1.0, 1.0000001]))
    assert (counts[0], counts[10], counts[-1]) == (2, 1, 3)


def test_the_record_holds_plain_numbers_only():
    found = retrieval_probe.measure_lexical(PROBE, 17)
    assert json.loads(json.dumps(found)) == found


def test_shared_words_by_hand():
    """Anchor and contradiction share a word that is in two of the nine texts and have one of their own."""
    items = [item(n, f"aa{n} bb{n}", f"cc{n} dd{n}", f"aa{n} bb{n + 3}") for n in (1, 2, 3)]
    texts = [getattr(i, f) for i in items for f in FIELDS]
    assert Counter(" ".join(texts).split())["aa1"] == 2
    found = retrieval_probe.measure_lexical(items, 17)["metrics"]
    common, rare = np.log(10 / 3) + 1, np.log(10 / 2) + 1  # idf as scikit-learn smooths it, in two texts and in one
    assert found["separation"]["negated"] == pytest.approx(common**2 / (common**2 + rare**2), abs=1e-6)
    assert found["separation"]["similar"] == found["separation"]["different"] == 0
    assert found["probe"]["all"]["accuracy"] == found["choice"]["all"]["accuracy"] == 0


def test_words_alone_fail_the_probe():
    found = retrieval_probe.measure_lexical(PROBE, 17)["metrics"]
    assert found["probe"]["all"]["accuracy"] < 0.02
    assert found["separation"]["negated_gap_high"] < -0.5


@pytest.mark.parametrize(
    "measure", [lambda i: retrieval_probe.measure_lexical(i, 17), lambda i: retrieval_probe.measure(None, i, 17)]
)
def test_too_few_items_or_one_given_twice_are_refused(measure):
    with pytest.raises(ValueError, match="found 2 items of the probe; give at least three"):
        measure(HEART[:2])
    with pytest.raises(ValueError, match="item 'negation-001' is given twice"):
        measure([*HEART, HEART[0]])


def test_separation_of_the_probe_is_metrics_separation(tiny_bert):
    encoder, seed = tiny_bert(), 17
    found = retrieval_probe.measure(encoder, HEART, seed)["metrics"]["separation"]
    ordered = sorted(HEART, key=lambda i: i.id)
    anchors, paraphrases = (encoders.encode(encoder, [getattr(i, f) for i in ordered]) for f in FIELDS[:2])
    different = metrics.positive_cosines(anchors, anchors[retrieval_probe._partners(4, seed)])
    expected = metrics.separation(metrics.positive_cosines(anchors, paraphrases), different, seed)
    for key, name in (("separation", "separation"), ("low", "separation_low"), ("high", "separation_high")):
        assert found[name] == pytest.approx(expected[key], abs=1e-6)
