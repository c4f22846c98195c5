"""Every format gives the same blocks, hostile files are refused with a next step, and no line hangs."""

import pytest

from cardioembed_study.corpus import readers

CNXML = """<document xmlns="http://cnx.rice.edu/cnxml" xmlns:m="http://www.w3.org/1998/Math/MathML">
<title>Valves</title>
<metadata><title>Not this</title><abstract><para>You will be able to recite.</para></abstract></metadata>
<content>{content}</content>{after}</document>"""


def cnxml(content, after=""):
    return readers.read(CNXML.format(content=content, after=after).encode(), "cnxml", "m1/index.cnxml")


def texts(blocks, kind=None):
    return [block.text for block in blocks if kind in (None, block.kind)]


def markdown(text):
    return readers.read(text.encode(), "markdown", "book.md")


def test_cnxml_gives_sections_terms_and_captions():
    blocks = cnxml(
        "<para>A <term>cusp</term> is a leaf; a <term class='no-emphasis'>ring</term> holds it.</para>"
        "<section><title>Aortic</title><list><item>Three <term>lunules</term></item><item>One ring"
        "<list><item>of collagen</item></list></item></list>"
        "<figure><title>Plan</title><media alt='x'/><caption>Seen from above.</caption></figure>"
        "<note><title>Old age</title><para>Leaflets stiffen.</para></note></section>"
    )
    assert [(b.kind, b.section, b.text, b.terms) for b in blocks] == [
        ("paragraph", ("Valves",), "A cusp is a leaf; a ring holds it.", ("cusp",)),
        ("item", ("Valves", "Aortic"), "Three lunules", ("lunules",)),
        ("item", ("Valves", "Aortic"), "One ring", ()),
        ("item", ("Valves", "Aortic"), "of collagen", ()),
        ("caption", ("Valves", "Aortic"), "Seen from above.", ()),
        ("paragraph", ("Valves", "Aortic", "Old age"), "Leaflets stiffen.", ()),
    ]


@pytest.mark.parametrize("name", ["multiple-choice", "interactive-exercise", "review-questions", "references"])
def test_sections_of_exercises_and_references_hold_no_prose(name):
    assert cnxml(f"<section class='{name}'><title>T</title><para>Which of these?</para></section>") == []


def test_a_section_of_objectives_is_told_by_its_title_too():
    assert cnxml("<section><title>Learning Objectives</title><para>Name four valves.</para></section>") == []


@pytest.mark.parametrize("name", ["anatomy interactive", "media-feature", "link-to-learning", "chapter-objectives"])
def test_boxes_that_send_the_reader_away_hold_no_prose(name):
    assert cnxml(f"<note class='{name}'><para>Watch this film about valves.</para></note>") == []


def test_a_box_with_a_film_in_it_holds_no_prose():
    assert cnxml("<note class='theory'><media><iframe src='x'/></media><para>It shows a valve.</para></note>") == []


def test_tables_and_equations_are_skipped():
    assert cnxml("<table><tgroup><tbody><row><entry>1</entry></row></tbody></tgroup></table><equation/>") == []


def test_free_response_gives_pairs_and_multiple_choice_none():
    pair = "<exercise><problem><para>Why?</para>{}</problem><solution><para>Pressure.</para></solution></exercise>"
    content = pair.format("") + pair.format("<list><item>a</item></list>")
    blocks = cnxml(f"<section class='free-response'><title>Think</title>{content}</section>")
    assert [(b.kind, b.text) for b in blocks] == [("question", "Why?"), ("answer", "Pressure.")]


def test_a_cnxml_glossary_without_definitions_is_a_glossary_too():
    items = (
        "<item><emphasis>cusp</emphasis> leaf of a <term>valve</term></item><item><term>ring</term>: its base</item>"
    )
    entries = f"<section><title>A</title><list>{items}<item>See <term>cusp</term> again</item></list></section>"
    found = cnxml(f"<section><title>Glossary</title>{entries}</section>")
    assert [(b.kind, b.text, b.terms) for b in found] == [
        ("glossary", "leaf of a valve", ("cusp",)),
        ("glossary", "its base", ("ring",)),
        ("item", "See cusp again", ("cusp",)),
    ]


def test_glossary_entries_keep_term_and_meaning_apart():
    entry = "<definition><term>cusp</term><meaning>leaf of\n a valve</meaning></definition>"
    (block,) = cnxml("", f"<glossary>{entry}</glossary>")
    assert (block.kind, block.text, block.terms) == ("glossary", "leaf of a valve", ("cusp",))
    assert block.section == ("Valves", "Glossary")


@pytest.mark.parametrize(
    ("inline", "wanted"),
    [
        ("O<sub>2</sub> and HCO<sub>3</sub><sup>–</sup>", "O2 and HCO3–"),
        ("10<sup>3</sup> to 10<sup>–5</sup>", "10^3 to 10^–5"),
        ("30 kg/m<sup>2</sup>, Na<sup>+</sup>, Ca<sup>2+</sup>", "30 kg/m2, Na+, Ca2+"),
        ("the 4<sup>th</sup> space", "the 4th space"),
        ("It closes.<sup>12</sup> Then", "It closes. Then"),
        (
            "opens (<link target-id='f1'/>), then (see <link target-id='f2'/> and <link target-id='f3'/>b).",
            "opens, then.",
        ),
        ("As <link target-id='fig-1'/> shows, it opens.", "As the figure shows, it opens."),
        ("<link target-id='table-1'/> lists them.", "The table lists them."),
        ("the <link url='u'>guideline</link> says", "the guideline says"),
        ("one<newline/>two <emphasis>three</emphasis>", "one two three"),
        (
            "<m:math><m:mfrac><m:mi>V</m:mi><m:mi>t</m:mi></m:mfrac><m:mo>=</m:mo><m:mn>5</m:mn></m:math> L",
            "V/t = 5 L",
        ),
        ("<m:math><m:msup><m:mn>10</m:mn><m:mn>2</m:mn></m:msup></m:math>", "10^2"),
        ("<m:math><m:msubsup><m:mtext>HPO</m:mtext><m:mn>4</m:mn><m:mtext>2−</m:mtext></m:msubsup></m:math>", "HPO42−"),
        ("<m:math><m:msqrt><m:mi>x</m:mi></m:msqrt></m:math>", "√(x)"),
    ],
)
def test_inline_markup_becomes_text(inline, wanted):
    assert " ".join(texts(cnxml(f"<para>{inline}</para>"))) == wanted


def test_markdown_of_the_primer_is_understood():
    blocks = markdown(
        "# Heart\n\n> A note.\n\n## Walls\n\nThe **septum** divides it.\n\n### Layers\n\nThree.\n\n## Glossary\n\n"
        "- **septum**: wall between\n  two sides.\n\n"
        "## Questions\n\n**Q:** How many?\n\n**A:** Four.\n**Q:** Why?\n**A:** Flow.\n"
    )
    assert [(b.kind, b.section, b.text, b.terms) for b in blocks] == [
        ("paragraph", ("Heart", "Walls"), "The septum divides it.", ("septum",)),
        ("paragraph", ("Heart", "Walls", "Layers"), "Three.", ()),
        ("glossary", ("Heart", "Glossary"), "wall between two sides.", ("septum",)),
        ("question", ("Heart", "Questions"), "How many?", ()),
        ("answer", ("Heart", "Questions"), "Four.", ()),
        ("question", ("Heart", "Questions"), "Why?", ()),
        ("answer", ("Heart", "Questions"), "Flow.", ()),
    ]


def test_a_page_break_within_a_sentence_does_not_end_it():
    page = "The left ven-\n\n{n}\n\nPump failure\n\ntricle fills {n} times.\n\n"
    blocks = markdown("# A\n\n" + "".join(page.format(n=n) for n in range(3)))
    assert texts(blocks) == [f"The left ventricle fills {n} times." for n in range(3)]


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ("the ven-\ntricle", "the ventricle"),
        ("a cross-\nsection", "a cross-section"),
        ("a beta-\nblocker", "a beta-blocker"),
        ("a wall-motion test; wall-\nmotion", "a wall-motion test; wall-motion"),
        ("ST-\nT changes", "ST-T changes"),
        ("soft\u00ad\nware", "software"),
        ("5 to 10-\n15 beats", "5 to 10- 15 beats"),
    ],
)
def test_hyphens_at_a_line_end_are_mended(lines, wanted):
    assert texts(markdown(lines)) == [wanted]


@pytest.mark.parametrize(
    "dirt",
    ["12", "Page 12", "- 12 -", "xiv", "12 of 300", "{12}------", "| a | b |\n|---|---|\n| 1 | 2 |", "![pump](p.png)", "---",
     "<!-- a\n\ncomment -->", "```\ncode\n```", "$$\nx = 1\n$$", "<table><tr>\n<td>1</td>\n</table>", "[^1]: Osei.", "> Said."],
)  # fmt: skip
def test_what_belongs_to_the_page_is_left_out(dirt):
    assert texts(markdown(f"Before it.\n\n{dirt}\n\nAfter it.")) == ["Before it.", "After it."]


def test_short_lines_are_kept_unless_they_recur_alone():
    assert texts(markdown("Pump failure\n\nIt is grave.\n\nPump failure\n\nIt is common.")).count("Pump failure") == 2
    assert texts(markdown("12 PUMP FAILURE\n\nOne.\n\nPump failure 13\n\nTwo.\n\n14 Pump failure\n\nThree.")) == [
        "One.", "Two.", "Three.",
    ]  # fmt: skip


def test_captions_lists_and_links_are_told_from_prose():
    blocks = markdown(
        "**Figure 2.1** The *aortic* root.\n\nFigure 2 shows [it](u)[^3].\n\n* one\n  more\n* two\n\n1. first"
    )
    assert [(b.kind, b.text) for b in blocks] == [
        ("caption", "The aortic root."),
        ("paragraph", "Figure 2 shows it."),
        ("item", "one more"),
        ("item", "two"),
        ("item", "first"),
    ]


def test_reference_lists_end_at_the_next_heading():
    assert texts(markdown("# A\n\nOne.\n\n## References\n\n1. Osei. Sounds.\n\n## Next\n\nTwo.")) == ["One.", "Two."]


def test_plain_text_takes_lone_numbered_and_capital_lines_as_headings():
    data = b"VALVES\n\nA valve opens\nand closes.\n\n1.2 Aortic valve\n\nIt has cusps."
    blocks = readers.read(data, "text", "valves.txt")
    assert [(b.section[-1], b.text) for b in blocks] == [
        ("VALVES", "A valve opens and closes."),
        ("1.2 Aortic valve", "It has cusps."),
    ]


def test_medquad_gives_the_answered_pairs_only():
    pair = "<QAPair><Question>What is it ?</Question><Answer>{}</Answer></QAPair>"
    pairs = pair.format(" A\n noise. ") + pair.format(" ")
    data = f"<Document><Focus>Bruit</Focus><QAPairs>{pairs}</QAPairs></Document>"
    blocks = readers.read(data.encode(), "medquad", "1.xml")
    assert [(b.kind, b.section, b.text) for b in blocks] == [
        ("question", ("Bruit",), "What is it?"),
        ("answer", ("Bruit",), "A noise."),
    ]


@pytest.mark.parametrize(("format", "data"), [("text", b"It beats."), ("markdown", b"It beats.")])
def test_a_document_of_one_sentence_is_read(format, data):
    assert texts(readers.read(data, format, "one.md")) == ["It beats."]
    assert texts(cnxml("<para>It beats.</para>")) == ["It beats."]


HEAD = b'<?xml version="1.0"?>\n'
LAUGHS = HEAD + b'<!DOCTYPE d [<!ENTITY ha "ha"><!ENTITY haha "&ha;&ha;">]><document>&haha;</document>'
OUTSIDE = HEAD + b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/hostname">]><document>&x;</document>'


@pytest.mark.parametrize(
    ("data", "format", "message"),
    [
        (
            b"<document><title>A",
            "cnxml",
            "bad.x: broken XML, .*; wanted a complete 'document' document; fetch the file again",
        ),
        (LAUGHS, "cnxml", "bad.x: declares an entity 'ha'; wanted XML without DOCTYPE; remove the declaration"),
        (OUTSIDE, "cnxml", "bad.x: declares an external entity 'x'; wanted XML without DOCTYPE; remove"),
        (b"<!DOCTYPE d SYSTEM 'd.dtd'><document/>", "medquad", "bad.x: declares a document type; wanted XML without"),
        ("caf\u00e9".encode("latin-1"), "text", "bad.x: byte 0xe9 at position 3 is not UTF-8; .* iconv"),
        ("<document/>".encode("utf-16"), "cnxml", "bad.x: byte 0xff at position 0 is not UTF-8"),
        (b" \n", "markdown", "bad.x: empty document, 2 bytes and no text; remove it from the manifest"),
        (b"<document><title/></document>", "cnxml", "bad.x: empty document, XML without any text"),
        (b"<html>Heart</html>", "cnxml", "bad.x: the root element is 'html', wanted 'document'; check the manifest"),
        (b"Heart", "docx", "bad.x: no reader for format 'docx'; wanted one of cnxml, markdown, medquad, text"),
        (b"**Q:** Why?\n\nProse.", "markdown", "bad.x: question 'Why\\?' has no answer; add one that starts with"),
        (b"**A:** Because.", "markdown", "bad.x: 1 answers to 0 questions; begin each question with"),
    ],
)
def test_errors_name_the_file_what_was_found_and_the_next_step(data, format, message):
    with pytest.raises(ValueError, match=message):
        readers.read(data, format, "bad.x")


HOSTILE = [
    "a",
    "[",
    "<!--",
    "![",
    "<",
    "**",
    "*",
    "(",
    "# ",
    "- ",
    "$",
    "`",
    "_",
    "|",
    " ",
    "a-\n",
    "12\n",
    "<sup>",
    "\\",
    "[^",
    "**Q:",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_two_hundred_thousand_characters_of_anything_do_not_hang(piece, no_hang):
    markdown("x" + piece * (200_000 // len(piece)) + " y")


def test_deep_nesting_is_refused_and_not_a_crash():
    with pytest.raises(ValueError, match=r"deep\.x: broken XML"):
        readers.read(b"<document>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</document>", "cnxml", "deep.x")
