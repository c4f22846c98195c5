"""ICD-9-CM codes: every billable code has its place, however it is written."""

import csv
import functools
import itertools
import os
import re
from pathlib import Path

import pytest

from cardioembed_study import paths
from cardioembed_study.notes import icd9


@functools.cache
def folder():
    """The published code lists, or a skip with its reason."""
    found = Path(os.environ.get("CARDIOEMBED_MIRROR", paths.ROOT.parent / "shared" / "data")) / "icd9cm"
    if not found.is_dir():
        pytest.skip(f"no icd9cm in {found.parent}; set CARDIOEMBED_MIRROR to a folder that has it")
    return found


@functools.cache
def billable():
    lines = (folder() / "CMS32_DESC_LONG_DX.txt").read_text("latin-1").splitlines()
    return [line.split()[0] for line in lines]


@functools.cache
def tabular():
    """Codes of the tabular list by their dotted form, headings that are no billable code included."""
    with (folder() / "Dtab12.csv").open(encoding="latin-1", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    return [row[0] for row in rows if row and re.fullmatch(r"([0-9]{3}|V[0-9]{2}|E[0-9]{3})(\.[0-9]+)?", row[0])]


@pytest.mark.parametrize(
    ("written", "code", "with_dot", "group"),
    [
        ("427.31", "42731", "427.31", "427"),
        ("42731", "42731", "427.31", "427"),
        ("486", "486", "486", "486"),
        ("038.9", "0389", "038.9", "038"),
        ("V4581", "V4581", "V45.81", "V45"),
        ("v58.6", "V586", "V58.6", "V58"),
        ("V22", "V22", "V22", "V22"),
        ("E8497", "E8497", "E849.7", "E849"),
        (" e849.7\t", "E8497", "E849.7", "E849"),
        ("E030", "E030", "E030", "E030"),
    ],
)
def test_a_code_is_read_however_it_is_written(written, code, with_dot, group):
    assert (icd9.normalise(written), icd9.dotted(written), icd9.category(written)) == (code, with_dot, group)


@pytest.mark.parametrize(
    "wrong",
    ["", "42", "427.", "427.311", "427311", "4.27", "42.731", "V4", "V45811", "E84", "E84977", "E84.97", "I48.91"],
)
def test_what_is_no_code_is_named(wrong):
    for call in (icd9.normalise, icd9.dotted, icd9.category, icd9.chapter, icd9.path):
        with pytest.raises(ValueError, match=re.escape(repr(wrong))):
            call(wrong)


@pytest.mark.parametrize("wrong", ["427 31", "４２７", "427.31\n427", "42731x"])
def test_other_digits_spaces_and_lines_are_no_code(wrong):
    with pytest.raises(ValueError, match=r"no ICD-9-CM diagnosis code; wanted one such as 427\.31"):
        icd9.normalise(wrong)


@pytest.mark.parametrize("number", [4019, 401.9, None])
def test_a_number_is_refused_because_its_zeros_may_be_lost(number):
    with pytest.raises(ValueError, match="read codes as text"):
        icd9.normalise(number)


def test_a_leading_zero_makes_another_code():
    assert icd9.chapter("0389") == "infection"
    assert icd9.chapter("389") == "nervous"


@pytest.mark.parametrize("code", ["000", "000.1", "V00", "V00.1"])
def test_a_category_outside_every_chapter_is_refused(code):
    with pytest.raises(ValueError, match="in no chapter"):
        icd9.chapter(code)


def test_there_are_19_chapters_with_a_short_name_each():
    names = [name for name, _, _ in icd9.CHAPTERS]
    assert len(names) == len(set(names)) == 19
    assert all(re.fullmatch(r"[a-z]{4,16}", name) for name in names)


def test_every_number_from_001_to_999_has_a_chapter_and_they_follow_each_other():
    found = [icd9.chapter(f"{n:03}") for n in range(1, 1000)]
    assert list(dict.fromkeys(found)) == [name for name, _, _ in icd9.CHAPTERS[:17]]
    assert sum(a != b for a, b in itertools.pairwise(found)) == 16


def test_a_path_goes_from_wide_to_narrow():
    assert icd9.path("E849.7") == ("external", "E849", "E8497")
    assert icd9.path("486") == ("respiratory", "486", "486")


def test_every_billable_code_is_in_exactly_one_chapter():
    assert len(billable()) == 14_567
    for code in billable():
        inside = [name for name, first, last in icd9.CHAPTERS if first <= icd9.category(code) <= last]
        assert inside == [icd9.chapter(code)]
    assert sum(icd9.chapter(code) == "circulatory" for code in billable()) == 474


def test_the_boundaries_are_the_published_ones():
    with (folder() / "icd9_chapters.csv").open(encoding="utf-8", newline="") as stream:
        published = [(row["start"], row["end"]) for row in csv.DictReader(stream)]
    assert [(first, last) for _, first, last in icd9.CHAPTERS] == published


def test_the_dot_of_every_billable_code_goes_and_comes_back():
    for code in billable():
        assert icd9.normalise(code) == icd9.normalise(icd9.dotted(code).lower()) == code


def test_the_dot_stands_where_the_tabular_list_has_it():
    assert len(tabular()) > 15_000
    for code in tabular():
        assert icd9.dotted(icd9.normalise(code)) == code
        assert icd9.category(code) == code.partition(".")[0]


def test_every_billable_code_lies_below_a_heading_where_the_tabular_list_has_one():
    headings = {code for code in tabular() if "." not in code}
    gaps = {"538", "E849"}  # two headings that this list leaves out
    assert {icd9.category(code) for code in billable()} - headings == gaps
