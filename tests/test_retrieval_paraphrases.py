"""Paraphrases made by rule: sentences of our own, and what no rule may change in them."""

import polars as pl
import pytest

from cardioembed_study.retrieval import paraphrases, probe

MADE = {  # one sentence for each kind of rule
    "clause to the end": (
        "If the client has kidney disease, the physician should reduce the amount of the medication.",
        "The doctor ought to reduce the quantity of the medicine if the patient has renal disease.",
    ),
    "clause to the front": (
        "The physician will often prescribe a diuretic because many patients have swollen ankles.",
        "Since numerous patients have swollen ankles, the doctor will frequently prescribe a diuretic.",
    ),
    "place to the end": (
        "In the left atrium, a rapid rhythm leads to several types of thrombus.",
        "A rapid rhythm results in a number of kinds of thrombus in the left atrium.",
    ),
    "name": (
        "The entire region around the sinus node is called the pacemaker zone.",
        "The name for the whole area around the sinus node is the pacemaker zone.",
    ),
    "article": (
        "An additional medication provides an entire day of relief for the client.",
        "A further medicine gives a whole day of relief for the patient.",
    ),
    "cause": (
        "Swelling of the ankles is caused by an essential treatment for angina in many clients.",
        "Swelling of the ankles results from a vital therapy for angina in numerous patients.",
    ),
}
KEPT = [
    "Because the individuals take many medications, clients should avoid 2.5 mg/kg of digoxin and 10 mmHg of pressure.",
    "Several individuals with heart failure never require treatment, and many clients should not obtain it.",
    "The left atrium typically provides less blood to the right ventricle when several individuals require treatment.",
]
NONE = {
    "question": "Should many clients with several types of disease usually require additional treatment?",
    "short": "Clients require many medications.",
    "nothing to change": "The mitral valve closes before the aortic valve opens in each beat of a healthy heart.",
    "too little changed": "The mitral valve often closes before the aortic valve opens in a heart that beats well.",
    "no sentence": "many types of medications that clients usually require for treatment during several weeks",
    "list": "Many clients require several types of treatment: medication, assessment and additional rest.",
}


@pytest.mark.parametrize("sentence, other", MADE.values(), ids=MADE)
def test_each_rule_says_the_same_in_other_words(sentence, other):
    assert paraphrases.paraphrase(sentence) == other
    assert paraphrases.faithful(sentence, other)


@pytest.mark.parametrize("sentence", NONE.values(), ids=NONE)
def test_what_cannot_be_changed_enough_has_no_paraphrase(sentence):
    assert paraphrases.paraphrase(sentence) is None


@pytest.mark.parametrize("sentence", KEPT)
def test_numbers_negations_and_sides_stay(sentence):
    made = paraphrases.paraphrase(sentence)
    for word in ("2.5 mg/kg", "10 mmHg", "never", "not", "left", "right", "less"):
        assert sentence.count(word) == made.count(word)


@pytest.mark.parametrize(
    "a, b",
    [
        ("Give 5 mg twice.", "Give 5 g twice."),
        ("Give 5 mg twice.", "Give 5 mg once."),
        ("Give 5 mg/kg of it.", "Give 5 mg/dl of it."),
        ("Two leaflets close.", "Three leaflets close."),
        ("The drug helps.", "The drug does not help."),
        ("The left valve leaks.", "The right valve leaks."),
        ("Pressure increases.", "Pressure decreases."),
    ],
)
def test_another_quantity_negation_or_side_is_not_faithful(a, b):
    assert paraphrases.faithful(a, a) and not paraphrases.faithful(a, b)


def test_a_clause_whose_subject_is_a_pronoun_stays_where_it_is():
    sentence = "Because several clients require medication, they should obtain treatment for many individuals."
    assert paraphrases.paraphrase(sentence).startswith("Since a number of patients need medicine, they ought to")


@pytest.mark.parametrize(
    "old, kept",
    [
        ("This is because several clients often obtain additional medications.", "This is because "),
        ("Many clients often call the physician should they require treatment.", "should they need"),
        ("Several clients obtain medications as well as keeping additional records.", "as well as keeping"),
        ("Several clients often require an additional test of specific gravity.", "specific gravity"),
        ("The physician often provides several individuals with additional medications.", "provides"),
    ],
)
def test_a_word_in_another_use_stays(old, kept):
    assert kept in paraphrases.paraphrase(old)


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
    assert [rule.passages[column] for column in rule.gold] == [paraphrases.paraphrase(text) for text in rule.queries]
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
