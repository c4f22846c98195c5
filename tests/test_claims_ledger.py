"""The files of claims: what they may say, what must hold between them, and that nothing of the record is left out."""

import re
from functools import cache

import pytest

from cardioembed_study import paths
from cardioembed_study.claims import arithmetic, checks, ledger

FILE = """
sources:
  paper: {title: A paper, cite: paper}
  card: {title: A card, why: a card gives no code}
why: the texts are not open
claims:
  - {id: study.pairs, source: paper, place: section 2, metric: count, value: 100, unit: pairs}
  - {id: study.card_pairs, source: card, place: card, metric: count, value: 120, unit: pairs, conflicts: [study.pairs]}
  - {id: study.seed, source: paper, place: section 3, metric: setting, value: 42, unit: seed, why: a setting}
tables:
  - id: study.table
    source: paper
    place: Table 1
    columns: {SciFact/ndcg_at_10: percent, mrr: fraction}
    rows:
      Base-1.5: [60, 0.5]
      Tuned: [null, 0.6]
    note: Of one run.
    notes: {Tuned.mrr: The best.}
    tests: {Tuned.mrr: gain}
    conflicts: {Base-1.5.mrr: [study.pairs]}
"""
PUBLISHED = paths.ROOT.parent / "shared" / "reference" / "PUBLISHED.md"
NUMBER = re.compile(r"(?<![\w.])(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+(?:e-?\d+)?|\d+(?:e-?\d+)?)(?!\d)")
FILES_OF = {
    "0": None,
    "A": {"cardioembed", "comparative", "official"},
    "B": {"medembed", "official"},
    "C": {"mimic", "official"},
    "C4": {"cardioembed", "comparative", "mimic"},  # the record's second reading, of all of them
}
NO_CLAIM = {  # (section, number as printed): why it needs no claim
    ("0", "47"): "47.17 rounded",
    ("0", "67"): "67.13 rounded",
    ("0", "145834.0"): "an example of an identifier",
    ("A", "4e42393"): "a revision",
    ("A", "2024"): "a year of citation",
    ("A", "2025"): "a year of citation",
    ("A", "4.35"): "a lower bound of a package's version",
    ("A", "13"): "figures that are absent from the repository",
    ("A", "135"): "135,000 in thousands",
    ("A", "15"): "15,000 in thousands",
    ("A", "2.6"): "billions of parameters of a released model, counted by others; the study says 2.5",
    ("C", "145834.0"): "an example of an identifier",
    ("C", "3.1"): "the start of a version",
    ("C", "2.37"): "an earlier simulation; the check of soft targets makes its own",
    ("C", "3.01"): "as 2.37",
    ("C", "3.23"): "as 2.37",
    ("C4", "1.083"): "a ratio of ours, 66.8 / 61.7",
    ("C4", "295"): "a line of the study, which the ledger gives by section and table",
    ("C4", "307"): "as 295",
    ("C4", "334"): "as 295",
}


@pytest.fixture
def write(tmp_path):
    """Return a maker of a folder with ``study.yaml``: the file above, some words replaced."""

    def make(old="", new=""):
        assert old in FILE
        (tmp_path / "study.yaml").write_text(FILE.replace(old, new), encoding="utf-8")
        return tmp_path

    return make


@pytest.fixture(scope="module")
def known():
    return ledger.load()


def test_a_table_is_one_claim_a_cell_and_a_missing_number_none(write):
    found = ledger.load(write(), {"gain"})
    cells = [key for key in found if key.startswith("study.table")]
    assert cells == ["study.table.Base-1.5.SciFact.ndcg_at_10", "study.table.Base-1.5.mrr", "study.table.Tuned.mrr"]
    cell = found["study.table.Base-1.5.SciFact.ndcg_at_10"]
    assert (cell.model, cell.data, cell.metric, cell.value, cell.unit) == (
        "Base-1.5",
        "SciFact",
        "ndcg_at_10",
        60,
        "percent",
    )
    assert (
        found["study.table.Tuned.mrr"].note == "Of one run. The best."
        and found["study.table.Tuned.mrr"].tests == "gain"
    )


def test_rows_of_one_models_table_are_what_the_number_is_on(write):
    found = ledger.load(write("place: Table 1", "place: Table 1\n    model: One\n    data: notes"), {"gain"})
    assert found["study.table.Tuned.mrr"].model == "One" and found["study.table.Tuned.mrr"].data == "notes; Tuned"


def test_the_reason_is_the_claims_own_or_its_sources_or_its_files(write):
    found = ledger.load(write(), {"gain"})
    reasons = [found[f"study.{name}"].why for name in ("seed", "card_pairs", "pairs", "table.Tuned.mrr")]
    assert reasons == ["a setting", "a card gives no code", *2 * ["the texts are not open"]]


def test_conflicts_hold_both_ways(write):
    found = ledger.load(write(), {"gain"})
    assert found["study.pairs"].conflicts == ("study.card_pairs", "study.table.Base-1.5.mrr")
    assert found["study.card_pairs"].conflicts == ("study.pairs",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("place: section 2, ", "", r"study\.yaml: study\.pairs: claims\.0\.place: Field required"),
        (
            "place: section 2,",
            "place: '',",
            r"study\.yaml: study\.pairs: claims\.0\.place: String should have at least 1",
        ),
        ("place: Table 1", "place: ''", r"study\.yaml: study\.table: tables\.0\.place: String should have at least 1"),
        ("value: 100", "value: many", r"study\.pairs: claims\.0\.value: Input should be a valid number.*found 'many'"),
        ("value: 100", "value: .nan", r"study\.pairs: claims\.0\.value: Input should be a finite number"),
        ("unit: seed", "unity: seed", r"study\.seed: claims\.2\.unit: Field required"),
        ("study.seed", "study.pairs", r"study\.yaml: id 'study\.pairs' stands twice"),
        ("study.seed", "other.seed", r"study\.yaml: id is 'other\.seed'; ids of this file start with 'study\.'"),
        ("id: study.seed", "id: study seed", r"study seed: claims\.2\.id: String should match pattern"),
        ("source: card", "source: cart", r"study\.card_pairs: source is 'cart'.*did you mean 'card'\?"),
        (
            "conflicts: [study.pairs]",
            "conflicts: [study.pears]",
            r"study\.card_pairs: conflicts names 'study\.pears', no claim",
        ),
        (
            "value: 120",
            "value: 100",
            r"study\.card_pairs: conflicts names 'study\.pairs', whose value is the same, 100",
        ),
        ("Tuned.mrr: gain", "Tuned.mrr: gaim", r"study\.table\.Tuned\.mrr: tests is 'gaim'.*did you mean 'gain'\?"),
        ("Tuned.mrr: gain", "Tuned.mr: gain", r"study\.table: tests names 'Tuned\.mr', no row\.column of it"),
        ("Tuned.mrr: The", "Tuned.mr: The", r"study\.table: notes names 'Tuned\.mr', no row\.column of it"),
        ("[null, 0.6]", "[0.6]", r"study\.table: rows\.Tuned has 1 values, columns has 2; write null for a number"),
    ],
)
def test_a_faulty_file_is_refused_by_file_id_and_field(write, old, new, message):
    with pytest.raises(ValueError, match=message):
        ledger.load(write(old, new), {"gain"})


def test_percent_and_fraction_of_one_number_are_the_same_number(write):
    same = "value: 60, unit: percent, conflicts: [study.pairs]"
    folder = write(
        "value: 120, unit: pairs, conflicts: [study.pairs]", same.replace("study.pairs", "study.table.Tuned.mrr")
    )
    with pytest.raises(ValueError, match=r"whose value is the same, 0\.6"):
        ledger.load(folder, {"gain"})


def test_every_claim_of_the_repository_has_a_place_a_unit_and_a_reason(known):
    assert len(known) > 800
    assert [key for key, c in known.items() if not (c.place.strip() and c.unit.strip() and c.why.strip())] == []


def test_every_source_that_the_book_cites_is_in_the_bibliography():
    keys = set(re.findall(r"^@\w+\{([^,]+),", (paths.BOOK / "references.bib").read_text(encoding="utf-8"), re.M))
    assert {source["cite"] for source in ledger.sources().values()} - {""} <= keys


def test_the_compact_scores_of_medembed_are_those_of_the_file_beside_the_record(known):
    file = PUBLISHED.with_name("medembed_ndcg10.csv")
    if not file.is_file():
        pytest.skip("the record of what was published, shared/reference, is not beside this repository")
    head, *rows = [line.split(",") for line in file.read_text(encoding="utf-8").splitlines()]
    wrong = []
    for name, model, *scores in rows:
        table = f"medembed.csv_{name}.{model.rpartition('/')[2]}"
        wrong += [
            (table, task)
            for task, score in zip(head[2:], scores, strict=True)
            if (found := known.get(f"{table}.{task}.ndcg_at_10")) is None or found.value != float(score)
        ]
    assert not wrong


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the record of what was published is not beside this repository")
def test_every_published_number_of_the_record_is_in_the_ledger():
    """As a value, in a claim's words, or in what a check computes; a number with two decimals or more may be rounded."""
    missing = {(section, number) for section, number in recorded() if not in_ledger(section, number)}
    assert sorted(missing - set(NO_CLAIM)) == []
    assert sorted(set(NO_CLAIM) - missing) == [], "these need no exception any more"


def recorded():
    """Return (section, number as printed) of every number of sections 0 to C of the record, headings left out."""
    text = re.sub(r"^### C\.4 ", "## C4. ", PUBLISHED.read_text(encoding="utf-8"), flags=re.M)
    parts = re.split(r"^## (\w+)\. .*$", text, flags=re.M)
    lines = [(parts[i], line) for i in range(1, len(parts), 2) for line in parts[i + 1].splitlines()]
    plain = [(section, re.sub(r"^\d+\. ", "", line)) for section, line in lines if not line.startswith("###")]
    return [(s, m[1]) for s, line in plain if s in FILES_OF for m in NUMBER.finditer(line)]


def in_ledger(section, number):
    wanted, digits = float(number.replace(",", "")), len(number.partition(".")[2])
    exact, shares = numbers_of(section)
    close = 0.5 * 10**-digits + 1e-9
    return any(abs(wanted - k) < 1e-9 for k in exact) or (digits >= 2 and any(abs(wanted - k) <= close for k in shares))


@cache
def numbers_of(section):
    """Return the numbers of a section's files, exact, and their values as shares of 1 and of 100, which may be rounded."""
    known = ledger.load()
    own = [c for c in known.values() if FILES_OF[section] is None or c.id.split(".")[0] in FILES_OF[section]]
    words = [" ".join((c.place, c.data, c.note, c.model, c.unit)) for c in own]
    ids = {c.id for c in own}
    words += [f"{c.stated} {c.computed}" for c in checks.compute(known) if ids & set(c.claims)]
    words += [source["title"] for source in ledger.sources().values()]
    words += [f"{size * share:.1f}" for size in arithmetic.adapter_sizes().values() for share in (1, 0.5)]
    exact = {abs(c.value) for c in own} | {float(m[1].replace(",", "")) for w in words for m in NUMBER.finditer(w)}
    shares = {abs(c.value) * scale for c in own for scale in (1, 100)}
    return exact, shares
