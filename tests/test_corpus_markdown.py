"""Every dialect of Markdown gives its words and terms alone; what is not closed hides no more than its section."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from cardioembed_study.corpus import cleaning, manifests, markdown, pairs, passages

KRAMDOWN = """---
title: "Walls"
layout: page
---

<cnx-pi data-type="cnx.eoc">class="summary" title="Summary"</cnx-pi>

<div data-type="abstract" markdown="1">
By the end of this section, you will be able to:
* Name the walls of the heart

</div>

### The septum

The **septum**{: data-type="term"} divides the heart ([\\[link\\]](#fig-1)), as [\\[link\\]](#tab-1) lists. *Trabeculae*{: .term}
cross it; O<sub>2</sub> is carried to
{: data-type="newline"}
it by <math xmlns="http://www.w3.org/1998/Math/MathML"><msup><mn>10</mn><mn>3</mn></msup></math> vessels.&nbsp;See
[a site][1]{: target="_window"}.

 ![A drawn septum. It is thin.](../s.jpg "Seen from above. (credit: A. Person)"){: #fig-1}

<div data-type="note" class="interactive" markdown="1">
<div data-type="title">
Link to Learning
</div>
Watch a septum move.

</div>

<div data-type="note" class="career" markdown="1">
<div data-type="title">
Career Connection
</div>
A sonographer measures the septum.

</div>

<table id="tab-1"><tr>
<td>Ten cells of a table</td>

<td>are no prose.</td></tr></table>

### Review Questions

<div data-type="exercise">
<div data-type="problem" markdown="1">
Which wall is it?

1.  the septum
2.  the apex
{: type="a"}

</div>
<div data-type="solution" markdown="1">
A

</div>
</div>

### Free Response

<div data-type="exercise">
<div data-type="problem" markdown="1">
Why is the septum thick?

</div>
<div data-type="solution" markdown="1">
It belongs to the left ventricle.

</div>
</div>

<div data-type="glossary" markdown="1">
### Glossary
{: data-type="glossary-title"}

septum
: wall between two chambers
^

trabeculae
: ridges of muscle

</div>

[1]: http://example.org/septum
"""

PANDOC = """Valves and flow {#sec-valves .unnumbered}
===============

A valve opens [@osei2019, p. 3; @lind2020] when pressure falls.^[Seen by everyone.] A [cusp]{.term} is a [leaf]{.smallcaps}[^1] of
10^3^ cells and H~2~O. As @fig:cusp shows, it is thin (see [@tbl:sizes]).

[^1]: Leaves number three,

    and at times two.

::: {.learning-objectives}
-   Name the cusps
:::

::: {.warning #w1}
Never cross a narrow valve unprepared.
:::

Lunule
:   rim of a cusp

    where it meets the next

Commissure

:   where two cusps meet
"""

MYST = """(heart-block)=
# Heart block

The {term}`escape rhythm` is slow, see {numref}`fig-escape` and {cite}`osei2019`; it follows {ref}`a pause <pause>` of
$\\geq 3$ s at $10^{3}$ Hz and H{sub}`2`O.

```{note}
A pacemaker may be needed.
```

:::{figure} pause.png
:name: pause
A pause of four seconds.
:::

```{code-cell} python
print("no prose")
```

:::{glossary}
escape rhythm
  slow rhythm from below the block
:::
"""

GITHUB = """# Drugs

> [!NOTE]
> Read the label.

- [Digoxin](digoxin.md) slows the node. ~~Not quinine.~~
- It is `narrow`, i.e. toxic above 2 ng/mL<br>in adults.

Dose | Rate
-----|-----
1 mg | 60

<details><summary>Why?</summary><p>It blocks the <b>sodium pump</b>.</p></details>
"""

OCR = """{12}------------------------------------------------

[MISSING_PAGE_EMPTY:3]

<|ref|>text<|/ref|><|det|>[[10, 20, 30, 40]]<|/det|>
The left ventricle ejects blood into the aorta, and the pres\u00ac
sure in it rises to that of the aorta before the valve opens, which takes a well\u2010
known time of about 50 ms in

##### Page 14

14 HEART SOUNDS

adults at rest.

FIGURE 7-2 Pressure in the aorta.

<!-- formula-not-decoded -->

Drug          Dose          Rate
Digoxin       0.25 mg       60
Atenolol      50 mg         55

\\[E = mc^{2}\\]

• The pulse is felt. \\(10^{2}\\) beats are many.

\\begin{table}
\\begin{tabular}{c} 1 \\end{tabular}
\\end{table}

It was then counted.
"""


def said(text):
    return [block.text for block in markdown.read(text, "book.md")]


def meanings(text):
    return {block.terms[0]: block.text for block in markdown.read(text, "book.md") if block.kind == "glossary"}


def test_kramdown():
    found = markdown.read(KRAMDOWN, "walls.md")
    assert [(b.kind, b.section[0], b.text, b.terms) for b in found] == [
        (
            "paragraph",
            "The septum",
            "The septum divides the heart, as the table lists. Trabeculae cross it; O2 is carried to it by 10^3 vessels. "
            "See a site.",
            ("septum", "Trabeculae"),
        ),
        ("paragraph", "The septum", "A sonographer measures the septum.", ()),
        ("question", "Free Response", "Why is the septum thick?", ()),
        ("answer", "Free Response", "It belongs to the left ventricle.", ()),
        ("glossary", "Glossary", "wall between two chambers", ("septum",)),
        ("glossary", "Glossary", "ridges of muscle", ("trabeculae",)),
    ]


def test_pandoc():
    found = markdown.read(PANDOC, "valves.md")
    assert [(b.section, b.text, b.terms) for b in found] == [
        (
            ("Valves and flow",),
            "A valve opens when pressure falls. A cusp is a leaf of 10^3 cells and H2O. As the figure shows, it is thin.",
            ("cusp",),
        ),
        (("Valves and flow",), "Never cross a narrow valve unprepared.", ()),
        (("Valves and flow",), "rim of a cusp; where it meets the next", ("Lunule",)),
        (("Valves and flow",), "where two cusps meet", ("Commissure",)),
    ]


def test_myst():
    found = markdown.read(MYST, "block.md")
    assert [(b.kind, b.text, b.terms) for b in found] == [
        (
            "paragraph",
            "The escape rhythm is slow, see the figure and; it follows a pause of ≥ 3 s at 10^3 Hz and H2O.",
            ("escape rhythm",),
        ),
        ("paragraph", "A pacemaker may be needed.", ()),
        ("paragraph", "A pause of four seconds.", ()),
        ("glossary", "slow rhythm from below the block", ("escape rhythm",)),
    ]


def test_github():
    assert said(GITHUB) == [
        "Digoxin slows the node. Not quinine.",
        "It is narrow, i.e. toxic above 2 ng/mL in adults.",
        "Why?",
        "It blocks the sodium pump.",
    ]


def test_ocr():
    assert said(OCR) == [
        "The left ventricle ejects blood into the aorta, and the pressure in it rises to that of the aorta before the valve "
        "opens, which takes a well-known time of about 50 ms in adults at rest.",
        "Pressure in the aorta.",
        "The pulse is felt. 10^2 beats are many.",
        "It was then counted.",
    ]


def test_bookdown():
    text = "The cusp \\index{cusp!\\texttt{a.b}} is thin, as Figure \\@ref(fig:cusp) shows (see Section \\@ref(thin))."
    text += "\n\n(ref:cusp) A cusp."
    found = markdown.read(text + "\n\nIt \\emph{never} tears.\n\n\\newpage", "cusp.md")
    assert [(b.kind, b.text) for b in found if b.text] == [
        ("paragraph", "The cusp is thin, as the figure shows."),
        ("caption", "A cusp."),
        ("paragraph", "It never tears."),
    ]


def test_a_line_that_the_author_ended_is_a_line_and_one_that_the_page_ended_is_none():
    for end in ("\\\n", " \\\n", "  \n", "<br>", "<br />\n"):
        found = markdown.read(f"- **Preload**{end}Stretch is called Preload.{end}It rises.\n\nNext.", "book.md")
        said_ = [(b.text, b.terms) for b in found[:3]]
        assert said_ == [("Preload", ("Preload",)), ("Stretch is called Preload.", ("Preload",)), ("It rises.", ())]
        assert said(f"The valve of{end}Thebesius is{end}small.") == ["The valve of Thebesius is small."]


def test_a_picture_and_its_caption_between_two_columns_follow_the_sentence_that_they_divide():
    text = (
        "The pressure in the left ventricle rises quickly and then\n\n![](a.png)\n\n{}\n\n{} in\ndiastole.\n\nIt ends."
    )
    whole = "The pressure in the left ventricle rises quickly and then falls in diastole."
    for caption in ("Figure 1. A pressure.", '<span id="a"></span>**Fig. 1** A\npressure.'):
        assert said(text.format(caption, "falls")) == [whole, "A pressure.", "It ends."]
    assert said(text.format("Figure 1. A pressure.", "It falls"))[1] == "A pressure."


@pytest.mark.parametrize(("formula", "text"), [("$k = 1 $is", "k = 1 is"), ("$x$ where a = 2 and $y$", "x where a = 2 and y"),
    ("$ x^2 $ is", "x2 is"), ("$ t $ of $ f(t) - 1 $", "t of f(t) - 1"), ("$4 or = $5", "$4 or = $5")])  # fmt: skip
def test_spaces_of_ocr_within_a_formula_go_and_prices_stay(formula, text):
    assert said(f"Here {formula}.") == [f"Here {text}."]


@pytest.mark.parametrize(
    "entry",
    ["- **Cusp**: leaf of a valve", "**Cusp** leaf of a valve", "* Cusp: leaf of a valve", "Cusp\n: leaf of a valve",
     "<dl><dt>Cusp</dt><dd>leaf of a valve</dd></dl>", "Cusp — leaf of a valve"],
)  # fmt: skip
def test_a_glossary_is_read_in_every_form(entry):
    for title in ("Key Terms", "3.14 Glossary"):
        assert meanings(f"# Valves\n\n## {title}\n\n{entry}\n") == {"Cusp": "leaf of a valve"}


@pytest.mark.parametrize(
    "title",
    [
        "Learning Objectives",
        "Link to Learning",
        "Review Questions",
        "1.4 Multiple-Choice Questions",
        "Funding Information",
    ],
)
def test_parts_that_set_tasks_end_at_the_next_heading(title):
    assert said(f"# A\n\nOne.\n\n## {title}\n\nName it.\n\n- a\n\n## B\n\nTwo.") == ["One.", "Two."]


def test_objectives_without_a_heading_go_with_their_list():
    assert said("After this you should be able to:\n\n- name the valves\n- draw them\n\nValves open.") == [
        "Valves open."
    ]


@pytest.mark.parametrize("opened", ["```python", "~~~", "$$", "<table><tr>", "\\[", "\\begin{table}"])
def test_what_is_not_closed_ends_at_the_next_heading_and_is_reported(opened):
    with pytest.warns(UserWarning, match=r"book\.md, line 3: .* is not closed; left out up to line "):
        assert said(f"Before it.\n\n{opened}\nx = 1\n\n## After\n\nAfter it.") == ["Before it.", "After it."]
    with pytest.warns(UserWarning, match=r"line 1: .* is not closed"):
        assert said(f"{opened}\nx = 1\n\nAfter it.") == ["After it."]


def test_a_heading_within_code_does_not_end_it(recwarn):
    assert said("One.\n\n```\n# a remark\nx = 1\n```\n\nTwo.") == ["One.", "Two."]
    assert not recwarn.list


def test_a_box_that_is_not_closed_hides_nothing():
    assert said('One.\n\n<div class="interactive">\n\nTwo.\n\n## A\n\nThree.') == ["One.", "Two.", "Three."]


def test_an_underlined_paragraph_is_no_heading():
    long = "The valve between the left atrium and the left ventricle has two cusps and opens in diastole."
    assert said(f"{long}\n---\nIt closes.") == [long, "It closes."]


def test_a_head_that_stands_once_within_a_sentence_goes_and_a_title_stays():
    text = "The pressure in the left ventricle rises quickly and then\n\n{}\n\n{} in diastole.\n"
    assert said(text.format("Heart sounds", "falls")) == [
        "The pressure in the left ventricle rises quickly and then falls in diastole."
    ]
    assert "Heart sounds" in said(text.format("Heart sounds", "It falls"))


@pytest.mark.parametrize(
    "piece",
    ["[^a]", "<math>", "\\(", "\\[\n", "```a\n\n", "```{note}\n", "::: a\n", "<div>", "<table\n", "$$\nx\n", "{", "**a** ",
     "[a]{.term} ", "# a\n\n", "- **a**: b\n", "a\n\n12\n\nb\n\n", "a    b    c\n", "a\\\n", "$a = 1 $b ",
     "\\index{a}", "a word and another word\n\n![](a)\n\nand ", "\n[a]: b"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*is not closed")
def test_marks_of_every_dialect_take_time_in_proportion(piece, no_hang):
    markdown.read("x" + piece * (200_000 // len(piece)) + " y", "book.md")


def test_boxes_in_boxes_take_time_in_proportion(no_hang):
    inner = "\n\n".join(["The heart pumps."] * 6000)
    opened = "".join(f'<div class="a{n}">\n\n' for n in range(6000))
    assert len(markdown.read(opened + inner + "\n\n</div>" * 6000, "book.md")) == 6000


@pytest.mark.parametrize(
    "text", ["a {: .x}", "[a](b)", "**a**", "\\alpha", "<p>", "&nbsp;", "$x", ":::", "#fig-1", "[^1]"]
)
def test_residue_names_what_is_left(text):
    assert cleaning.residue(text) is not None and cleaning.residue(text) in text


def test_residue_finds_none_in_clinical_prose():
    said = "At p < 0.05 & n > 30, a $4 drug (1 mg [0.5, 2]) gave 10^3 cells; Na+ {mmol/L} fell by #2 of 3."
    assert cleaning.residue(said) is None


BOOK = Path(os.environ.get("CARDIOEMBED_MIRROR", "/nowhere")) / "openstax_biology_kramdown"


@pytest.mark.slow
@pytest.mark.skipif(not BOOK.is_dir(), reason="needs CARDIOEMBED_MIRROR with openstax_biology_kramdown")
def test_a_real_kramdown_book_is_read_whole(monkeypatch):
    files = sorted(file.relative_to(BOOK).as_posix() for file in BOOK.glob("contents/*.md"))
    monkeypatch.setattr(manifests, "documents", lambda _: files)
    source = SimpleNamespace(name="biology", format="markdown", cardiology=())
    frame, counts = passages.prepare(source, BOOK)
    marked = [text for text in frame["text"] if cleaning.residue(text)]
    assert counts["sentences"] > 20_000 and len(marked) <= 0.005 * frame.height, marked[:5]
    n_entries = sum((BOOK / file).read_text().count("\n: ") for file in files)
    assert counts["glossary"] >= 0.9 * n_entries > 2_000
    assert pairs.make(passages.split(frame), "definition").height > 1_000
