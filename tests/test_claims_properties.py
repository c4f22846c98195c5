"""The file of properties: what it may say, which claims it bears on, and what its rules decide."""

import datetime

import pytest

from cardioembed_study.claims import ledger, properties

CLAIMS = ("study.table.Base.mrr", "study.table.Tuned.mrr", "study.gain")
CONFIRMATORY = {  # the digests with which they were committed, before the experiments
    "specialty_helps": "225f06f161e2",
    "format_helps": "160286e5a430",
    "format_more_than_specialty": "7a78b76587c4",
    "specialty_interaction": "3c1e79d479ba",
    "mined_negatives_help": "3ddcd23c74e9",
    "small_gains_more": "3d5f5f56fcda",
    "written_queries_help": "d5ad1dfe51ea",
    "merging_helps": "c07f17cf0b16",
    "late_interaction_finds_more": "bec6eda9303b",
}
FILE = """
properties:
  - id: gain
    sentence: Tuning raises retrieval above the base.
    measure: MRR
    split: test
    recipe: LoRA
    unit: MRR
    rule: {holds: low > 0, refuted: high < 0.02}
    seeds: 3
    status: post hoc
    dated: 2026-11-29
    test: in_domain_gain
    bears_on: [study.table.*, study.gain]
"""


@pytest.fixture
def write(tmp_path):
    """Return a maker of ``properties.yaml``: the file above, some words replaced."""

    def make(old="", new=""):
        assert old in FILE
        (tmp_path / "properties.yaml").write_text(FILE.replace(old, new), encoding="utf-8")
        return tmp_path / "properties.yaml"

    return make


def test_a_property_bears_on_the_claims_that_its_globs_match(write):
    found = properties.load(CLAIMS, write())["gain"]
    assert found.bears_on == CLAIMS and found.dated == datetime.date(2026, 11, 29)
    assert properties.load(CLAIMS, write("study.table.*", "study.*.Base.*"))["gain"].bears_on == CLAIMS[::2]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    measure: MRR\n", "", r"^properties\.yaml: gain: measure: Field required"),
        ("seeds: 3", "seeds: 2", r"gain: seeds: Input should be greater than or equal to 3; found '2'"),
        ("post hoc", "posthoc", r"gain: status: Input should be 'confirmatory' or 'post hoc'"),
        ("low > 0", "low >= 0", r"gain: rule\.holds: String should match.*found 'low >= 0'"),
        ("dated: 2026-11-29", "dated: lately", r"gain: dated: .*date"),
        ("unit: MRR", "units: MRR", r"gain: unit: Field required"),
        ("id: gain", "id: a gain", r"a gain: id: String should match"),
        ("id: gain", "name: gain", r"property 1: id: Field required"),
        ("study.gain", "study.gian", r"gain: bears_on: 'study\.gian' matches no claim; did you mean 'study\.gain'"),
        ("[study.table.*, study.gain]", "[]", r"gain: bears_on: .*at least 1"),
        (FILE[13:], "", r"^properties\.yaml: properties is None; wanted a list"),
        (FILE[13:], FILE[13:] * 2, r"gain: id stands twice"),
    ],
)
def test_a_faulty_file_is_refused_by_file_id_and_field(write, old, new, message):
    with pytest.raises(ValueError, match=message):
        properties.load(CLAIMS, write(old, new))


def test_a_propertys_digest_changes_with_its_rule_and_with_nothing_else(write):
    """Not with the claims it bears on, nor with another property of the file; the file's changes with both."""
    before, file = properties.load(CLAIMS, write())["gain"].digest, properties.digest(write())
    assert len(before) == 64
    assert properties.load(CLAIMS, write("low > 0", "low > 0.1"))["gain"].digest != before
    assert properties.load(CLAIMS, write("[study.table.*, study.gain]", "[study.gain]"))["gain"].digest == before
    other = FILE[13:].replace("id: gain", "id: other")
    assert properties.load(CLAIMS, write(FILE[13:], FILE[13:] + other))["gain"].digest == before
    assert properties.digest(write(FILE[13:], FILE[13:] + other)) != file


def test_no_confirmatory_property_was_changed_after_it_was_dated():
    digests = {
        key: one.digest[:12] for key, one in properties.load(ledger.load()).items() if one.status == "confirmatory"
    }
    assert digests == CONFIRMATORY


def test_every_property_of_the_repository_has_claims_and_says_whether_its_outcome_was_seen():
    found = properties.load(ledger.load())
    assert all(one.bears_on for one in found.values())
    assert [key for key, one in found.items() if one.status == "confirmatory"] == [*CONFIRMATORY]
