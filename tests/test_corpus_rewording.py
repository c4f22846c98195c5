"""Paraphrases made by rule: sentences of our own, and what no rule may change in them."""

import pytest

from cardioembed_study.corpus import rewording

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
    assert rewording.paraphrase(sentence) == other
    assert rewording.faithful(sentence, other)


@pytest.mark.parametrize("sentence", NONE.values(), ids=NONE)
def test_what_cannot_be_changed_enough_has_no_paraphrase(sentence):
    assert rewording.paraphrase(sentence) is None


@pytest.mark.parametrize("sentence", KEPT)
def test_numbers_negations_and_sides_stay(sentence):
    made = rewording.paraphrase(sentence)
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
    assert rewording.faithful(a, a) and not rewording.faithful(a, b)


def test_a_clause_whose_subject_is_a_pronoun_stays_where_it_is():
    sentence = "Because several clients require medication, they should obtain treatment for many individuals."
    assert rewording.paraphrase(sentence).startswith("Since a number of patients need medicine, they ought to")


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
    assert kept in rewording.paraphrase(old)


@pytest.mark.parametrize("sign", "\ue005\uf0b3\uf0b7")
def test_a_sign_that_only_its_own_letter_type_can_read_is_never_rewritten(sign):
    said = "If the client has {}kidney disease, the physician should reduce the amount of the medication."
    assert rewording.paraphrase(said.format("")) and rewording.paraphrase(said.format(f"{sign} ")) is None
