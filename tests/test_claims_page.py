"""The page of claims: every claim once, every text as it is, every link to something, with and without the script."""

import csv
import re
import shutil
import subprocess

import pytest
import yaml
from lxml import html
from markdown_it import MarkdownIt

from cardioembed_study import paths
from cardioembed_study.claims import checks, evidence, headline, ledger, properties, verdicts
from cardioembed_study.claims import page as claims_page
from cardioembed_study.workflow import publish

STATIC = paths.BOOK / "_static"
CLASSES = list(verdicts.CLASSES)
HOSTILE = '<script>alert("1")</script> & *stars*, under_scores_, $5 | [a](b) `code`'


def claim(name, value, **fields):
    about = {"source": "paper", "place": "Table 1", "model": "A", "data": "pairs", "metric": "mrr", "unit": "fraction"}
    return ledger.Claim(id=f"toy.{name}", value=value, **about | fields)


def judged(name, kind, ours="", why="", link=""):
    return verdicts.Verdict(claim=f"toy.{name}", kind=kind, ours=ours, why=why, link=link)


def outcome(name, measured=None, bears_on=("toy.one",), **rule):
    about = dict.fromkeys(("measure", "split", "recipe"), HOSTILE)
    fields = {"unit": "MRR", "seeds": 3, "status": "post hoc", "dated": "2026-11-29", "test": "in_domain_gain"}
    rule = {"holds": "low > 0", "refuted": "high < 0.02"} | rule
    sentence = f"The property {name} says {HOSTILE}."
    one = properties.Property(id=name, sentence=sentence, rule=rule, bears_on=bears_on, **about, **fields)
    return verdicts.Outcome(one, one.outcome(measured), measured)


def check(name, names, holds=True, stated="1 + 1", computed="2", decides=True):
    return checks.Check(name, names, holds, stated, computed, decides)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Return four toy claims, their verdicts and two checks; tables go to a folder of this test."""
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    monkeypatch.setattr(ledger, "sources", lambda: {"toy.paper": {"title": "The paper (v1)", "paper": "Toys"}})
    row = headline.Row("toy.two", "B is *better*", "0.51", "0.9", "same direction", "executed/03_retrieval")
    monkeypatch.setattr(headline, "rows", lambda *_: [row])
    claims = [
        claim("one", 99.6, unit="percent", metric="acc_at_1"),
        claim("two", 0.51, model="B"),
        claim("three", 106386, unit="triplets", model="", metric="count"),
        claim("four", -0.24, note=HOSTILE, place=HOSTILE, data=HOSTILE),
    ]
    given = [
        judged("one", CLASSES[0], "0.628 (n = 321, 0.590 to 0.665)", "tested", "executed/03_retrieval"),
        judged("two", CLASSES[0], "0.9", "tested too", "executed/03_retrieval"),
        judged("three", CLASSES[1], "", "does not add up", "claims-arithmetic#a_sum"),
        judged("four", CLASSES[5], HOSTILE, HOSTILE),
    ]
    gain = evidence.Measured(0.058, 0.02, 0.11, 3, 1770, "definitions", 16, said="base 0.570, tuned 0.628")
    outcomes = (
        outcome("gain", gain, ("toy.one", "toy.two")),
        outcome("other"),
        outcome("sure", gain, holds="by definition"),
    )
    given = verdicts.Judged(tuple(given), outcomes, "abc" * 20, {})
    checked = [
        check("a_sum", ("toy.three",), holds=False),
        check("b_sum", ("toy.one", "toy.two"), stated=HOSTILE),
        check("c_sum", ("toy.one", "toy.two", "toy.three", "toy.four"), holds=False, decides=False),
    ]
    return {one.id: one for one in claims}, given, checked


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Return the ledger, its verdicts by the committed records, its checks, and the folder of its tables."""
    (records, *_) = [*sorted((paths.BOOK / "results").glob("*")), tmp_path_factory.mktemp("no-evidence-yet")]
    claims = ledger.load()
    given, checked = verdicts.judge(claims, verdicts.load(records)), checks.compute(claims)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path_factory.mktemp("claims")))
        claims_page.write("toy", claims, given, checked)
        return claims, given, checked, paths.artifacts("toy") / "tables"


def parsed(folder):
    return html.fromstring((folder / "claims.html").read_text(encoding="utf-8"))


def tables(toy):
    claims_page.write("toy", *toy)
    return paths.artifacts("toy") / "tables"


def rendered(path):
    """Return a table of Markdown as the book reads it: HTML as it stands, and addresses made links."""
    return html.fromstring(MarkdownIt("gfm-like", {"html": True}).render(path.read_text(encoding="utf-8")))


def column(tree, n):
    return [row.xpath("string(*[$n])", n=n).strip() for row in tree.xpath("//tbody/tr")]


# ---- the ledger itself


def test_every_claim_of_the_ledger_stands_once_on_the_page_and_once_in_the_file(real):
    claims, *_, folder = real
    with (folder / "claims.csv").open(encoding="utf-8", newline="") as file:
        assert [row["claim"] for row in csv.DictReader(file)] == list(claims)
    assert parsed(folder).xpath("//tbody/tr/@id") == list(claims)


def test_the_file_gives_back_every_number_and_every_text(real):
    claims, given, _, folder = real
    with (folder / "claims.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    for row, stated, verdict in zip(read, claims.values(), given.claims, strict=True):
        assert float(row["value"]) == stated.value
        assert [row[key] for key in ("place", "model", "data", "unit", "note")] == [
            getattr(stated, key) for key in ("place", "model", "data", "unit", "note")
        ]
        assert [row[key] for key in ("ours", "class", "why", "link")] == [
            verdict.ours,
            verdict.kind,
            verdict.why,
            verdict.link,
        ]


def test_no_published_number_loses_a_digit(real):
    for stated in real[0].values():
        shown = ledger.published(stated.value, stated.unit)
        assert float(re.match(r"-?[\d.,]+(?:e-?\d+)?", shown)[0].rstrip(",").replace(",", "")) == stated.value, (
            stated.id
        )


def test_every_link_leads_to_a_page_of_the_book_or_to_a_place_on_this_one(real):
    toc = yaml.safe_load((paths.BOOK / "_toc.yml").read_text())
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    pages = {toc["root"], *(entry.get("file") for entry in entries)}
    for entry in (entry for entry in entries if "glob" in entry):
        pages |= {f"executed/{path.stem}" for path in paths.BOOK.glob(f"{entry['glob']}.ipynb")}
    folder = real[3]
    texts = [parsed(folder), *(rendered(path) for path in sorted(folder.glob("*.md")))]
    assert len(texts) == 6
    places = {place for text in texts for place in text.xpath("//@id")}
    for link in sorted({link for text in texts for link in text.xpath("//a/@href")}):
        page, _, place = link.partition("#")
        if page in ("", "claims.html"):
            assert place in places or re.match(r"class=", place), link
        else:
            assert page.removesuffix(".html") in pages, f"{link}: no page of book/_toc.yml"


def test_every_check_that_a_verdict_rests_on_is_on_the_page(real):
    _, given, checked, _ = real
    named = {
        verdict.link.partition("#")[2] for verdict in given.claims if verdict.link.startswith("claims-arithmetic#")
    }
    assert named <= {one.name for one in checked}
    assert len({claims_page.anchor(one.name) for one in checked}) == len(checked), "two checks share an anchor"


def test_counts_by_class_and_by_paper_add_up_to_the_ledger(real):
    claims, *_, folder = real
    by_class = [int(text.replace(",", "")) for text in column(rendered(folder / "claims-classes.md"), 3)]
    assert len(by_class) == len(CLASSES) and sum(by_class) == len(claims)
    by_paper = [row[1:] for row in rendered(folder / "claims-papers.md").xpath("//tbody/tr")]
    assert [sum(int(cell.text.replace(",", "")) for cell in row) for row in by_paper] == by_class
    with (folder / "classes.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    papers = list(dict.fromkeys(row["paper"] for row in read))
    assert papers == ["CardioEmbed", "Comparative study", "MedEmbed", "EmbeddingGemma on MIMIC-III", "official"]
    assert [sum(int(row["claims"]) for row in read if row["class"] == name) for name in CLASSES] == by_class


def test_every_property_stands_once_and_its_claims_lead_back_to_it(real):
    _, given, _, folder = real
    shown = rendered(folder / "claims-properties.md")
    assert shown.xpath("//@id") == [f"property-{one.property.id}" for one in given.outcomes]
    for one in given.outcomes:
        for claim in one.property.bears_on:
            row = parsed(folder).get_element_by_id(claim)
            assert f"#property-{one.property.id}" in row.xpath(".//a/@href"), claim


def test_what_looks_like_a_file_or_an_address_does_not_become_a_link(real):
    for path in sorted(real[3].glob("*.md")):
        outward = [link for link in rendered(path).xpath("//a/@href") if link.startswith(("http", "mailto"))]
        assert outward == [], path.name


# ---- toys, by hand


def test_markup_in_a_claim_is_shown_and_not_obeyed(toy):
    folder = tables(toy)
    page = parsed(folder)
    assert page.xpath("//script") == []
    row = page.get_element_by_id("toy.four")
    shown = HOSTILE.replace("`", "")
    assert [row[2].text_content(), row[5].text_content()] == [shown, shown]
    assert row[0].xpath("string(small)") == shown and row[7].text_content() == shown + shown
    sentence = rendered(folder / "claims-properties.md").xpath("//tbody/tr[1]/td[1]")[0]
    assert shown in sentence.text_content() and not sentence.xpath(".//script|.//em|.//a[@href]")
    assert row[7].xpath("string(code)") == "code"
    stated = rendered(folder / "claims-arithmetic.md").xpath("//tbody/tr[2]/td[2]")[0]
    assert stated.text_content() == shown and not stated.xpath(".//script|.//em|.//a")


def test_a_row_says_what_was_published_and_what_is_ours(toy):
    row = parsed(tables(toy)).get_element_by_id("toy.one")
    cells = [cell.text_content() for cell in row]
    assert cells[0] == "The paper (v1)Table 1toy.one"
    assert cells[1:] == [
        "A",
        "pairs",
        "Acc@1",
        "99.6 %",
        "0.628 (n = 321, 0.590 to 0.665)",
        CLASSES[0],
        "tested 3 · Retrieval A property that bears on it A property that bears on it A property that bears on it",
    ]
    assert [row[4].get("data-number"), row[5].get("data-number")] == ["99.6", "0.628"]
    properties = ["#property-gain", "#property-other", "#property-sure"]
    assert row.xpath("td[7]/a/@href") == ["executed/03_retrieval.html", *properties]


def test_the_table_needs_no_script_and_names_its_heads(toy):
    page = parsed(tables(toy))
    assert [head.get("scope") for head in page.xpath("//thead//th")] == ["col"] * len(claims_page.COLUMNS)
    assert {head.get("scope") for head in page.xpath("//tbody//th")} == {"row"}
    assert page.xpath("//caption") and not page.xpath("//*[@hidden or @onclick]|//button|//input")


def test_a_property_shows_its_outcome_what_it_rests_on_and_its_rule(toy):
    rows = rendered(tables(toy) / "claims-properties.md").xpath("//tbody/tr")
    cells = [[cell.text_content() for cell in row] for row in rows]
    assert [row[1] for row in cells] == ["holds", "not run", "holds, by definition"]
    combined = evidence.Measured(0.1, -0.1, 0.3, 3, 9, "pairs", interval="interval from the ends of both")
    assert "(interval from the ends of both -0.100 to +0.300; n" in claims_page.measured(outcome("both", combined))
    assert cells[0][2].startswith(
        "+0.058 MRR (95 % +0.020 to +0.110; n = 1,770 definitions, 16 documents; 3 seeds): base 0.570, tuned 0.628"
    )
    assert cells[1][2] == "" and cells[0][3] == "post hoc"
    assert "Holds if the lower end of the interval lies above 0" in cells[0][4] and "abcabcabcabc" in cells[0][4]
    assert rows[0].xpath("td[6]//a/@href") == ["#toy.one", "#toy.two"]
    assert rows[0].xpath("string(td[6]//summary)") == "2 claims"


def test_a_count_that_is_hidden_is_shown_as_it_is():
    few = evidence.Measured(0.1, None, None, 1, "<11", "queries", "<11", "patients")
    assert (
        claims_page.measured(outcome("few", few)) == "+0.100 MRR (no interval; n = <11 queries, <11 patients; 1 seed)"
    )


def test_numbers_for_the_text_are_the_counts(toy):
    _, given, checked = toy
    found = claims_page.numbers(given, checked)
    assert [found[name] for name in ("claims_total", "properties_total", "properties_holds")] == [4, 3, 2]
    assert [found[f"claims_{name.replace(' ', '_')}"] for name in CLASSES[:6]] == [2, 1, 0, 0, 0, 1]
    assert [found[f"checks_{name}"] for name in ("total", "hold", "fail", "inform")] == [3, 1, 1, 1]
    assert found["share_unchecked"] == 0 and found["rules"] == "abcabcabcabc"


def test_claims_are_counted_by_paper_and_class():
    table = [{"paper": p, "class": CLASSES[n]} for p, n in (("A", 0), ("A", 0), ("A", 9), ("B", 0))]
    found = {(row["paper"], row["class"]): row["claims"] for row in claims_page.class_counts(table)}
    assert len(found) == 2 * len(CLASSES) and sum(found.values()) == 4
    assert [found["A", CLASSES[0]], found["A", CLASSES[9]], found["B", CLASSES[0]]] == [2, 1, 1]


def test_a_check_is_where_its_claim_points_and_points_at_its_claims(toy):
    folder = tables(toy)
    shown = rendered(folder / "claims-arithmetic.md")
    link = parsed(folder).xpath("//tr[@id='toy.three']//a[text()='Arithmetic']/@href")
    assert link == ["#check-a-sum"] and shown.xpath("//*[@id='check-a-sum']")
    assert column(shown, 4) == ["no", "yes", "no, for information"]
    assert shown.xpath("//tbody/tr[2]//a/@href") == ["#toy.one", "#toy.two"]
    assert shown.xpath("string(//tbody/tr[3]//details/summary)") == "4 claims"
    assert len(shown.xpath("//tbody/tr[3]//details/a")) == 4


def test_headlines_are_in_words_and_their_links_hold_in_the_readme_too(toy):
    text = (tables(toy) / "claims-headline.md").read_text()
    assert text.splitlines()[-1] == (
        r'| <a href="claims.html#toy.two">B is \*better\*</a> | 0.51 | 0.9 | '
        "same direction | [3 · Retrieval](executed/03_retrieval) |"
    )
    links = re.findall(r"\]\(([^)]+)\)", publish.for_readme(text))
    assert len(links) == 2 and all((paths.ROOT / link).is_file() for link in links)
    assert "<a" not in publish.for_readme(text)


@pytest.mark.parametrize("change", [lambda v: v[1:], lambda v: (*v, v[0]), lambda v: v[::-1]])
def test_verdicts_that_are_not_one_for_each_claim_are_refused(toy, change):
    claims, given, _ = toy
    given = verdicts.Judged(change(given.claims), given.outcomes, given.rules, {})
    with pytest.raises(ValueError, match=r"verdicts for 4 claims, and they do not match: (toy\.one|only the order)"):
        claims_page.rows(claims, given)


# ---- script and style


def test_every_class_has_its_own_mark():
    style = (STATIC / "claims.css").read_text()
    marks = [re.search(rf"\.{name.replace(' ', '-')}\b[^{{]*\{{([^}}]+)\}}", style) for name in CLASSES]
    assert all(marks) and len({mark[1] for mark in marks}) == len(CLASSES)
    assert not re.search(r"@import|url\(", style)


def test_every_column_has_a_width_and_a_label_for_cards():
    style = (STATIC / "claims.css").read_text()
    widths = [int(re.search(rf'\[data-column="{name}"\] {{ width: (\d+)%', style)[1]) for name in claims_page.COLUMNS]
    assert sum(widths) == 100
    labels = re.findall(r'::before \{ content: "(\w+)"; \}', style)
    assert tuple(labels) == claims_page.COLUMNS


@pytest.mark.parametrize("script", sorted(STATIC.glob("*.js")), ids=lambda script: script.stem)
def test_a_script_parses_and_reaches_for_nothing_outside(script):
    assert not re.search(r"https?:|import\b|fetch\(|XMLHttpRequest|innerHTML|eval\(", script.read_text())
    if not (node := shutil.which("node")):
        pytest.skip("node is not installed; it checks the script's syntax")
    done = subprocess.run([node, "--check", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def browser(toy, browse):
    """Return a function: the page's address after # -> the page as a browser without a screen shows it, from a file."""
    body = (tables(toy) / "claims.html").read_text()
    return lambda state: browse("claims", body, state)


def seen(page):
    """Return the count that is said, and the claims that are shown, in order."""
    return page.xpath("string(//output)"), [
        name.removeprefix("toy.") for name in page.xpath("//tbody/tr[not(@hidden)]/@id")
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        ("", ["one", "two", "three", "four"]),
        (f"class={CLASSES[0].replace(' ', '+')}", ["one", "two"]),
        (f"class={CLASSES[0].replace(' ', '%20')}&model=B", ["two"]),
        ("metric=MRR", ["two", "four"]),
        ("source=The+paper+%28v1%29&find=TRIPLETS", ["three"]),
        ("find=tested+too", ["two"]),
        ("find=toy.four+alert", ["four"]),
        ("find=nowhere", []),
        ("sort=published", ["four", "two", "one", "three"]),
        ("sort=-published", ["three", "one", "two", "four"]),
        ("sort=ours", ["one", "two", "four", "three"]),  # numbers, then text, then nothing
        ("sort=-ours", ["two", "one", "four", "three"]),
        ("sort=model", ["one", "four", "two", "three"]),
        ("sort=nothing", ["one", "two", "three", "four"]),
        (f"class={CLASSES[2].replace(' ', '+')}", []),  # no claim has it
    ],
)
def test_the_address_of_the_page_searches_filters_and_sorts(browser, state, wanted):
    page = browser(state)
    assert seen(page) == (f"{len(wanted)} of 4 claims", wanted)
    order = [head.get("aria-sort") for head in page.xpath("//thead//th") if head.get("aria-sort")]
    known = re.search(r"sort=(-?)(published|ours|model)", state)
    assert order == ([{"": "ascending", "-": "descending"}[known[1]]] if known else [])


@pytest.mark.slow
def test_controls_are_labelled_and_reached_by_the_keyboard(browser):
    page = browser("")
    assert [label.text for label in page.xpath("//form/label")] == ["Search", "Source", "Model", "Metric", "Class"]
    assert len(page.xpath("//thead//th/button[@type='button']")) == len(claims_page.COLUMNS)
    assert page.xpath("//output/@aria-live") == ["polite"]
    assert page.xpath("//input/@name") == ["find"]  # Sphinx's search empties every field named q
    options = page.xpath("//select[@name='class']/option/text()")
    assert options == ["all", *sorted({CLASSES[0], CLASSES[1], CLASSES[5]})]
