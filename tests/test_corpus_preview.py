"""A preview counts what the corpus would be made of, says what was dropped, and shows no text that is restricted."""

import pytest
import yaml
from lxml import html

from cardioembed_study import paths
from cardioembed_study.corpus import manifests, preview
from cardioembed_study.workflow import command

BOOK = """<html><body>{}</body></html>"""
CHAPTER = """<h1>Chapter {n}</h1>
<p>The <b>septum {n}</b> divides the heart into two sides of {n} mm. Short one. Watch this video to see it move.</p>
<p>The same sentence stands in every chapter. It leaves code & \\\\alpha at the end of number {n}.</p>
<ul><li>An item of the list with number {n}.</li></ul>
<figure><img src="x"><figcaption>Figure {n}.1 The heart is seen from above, part {n}.</figcaption></figure>
<h2>Glossary</h2><dl><dt>septum {n}</dt><dd>wall between the two sides, number {n}</dd></dl>
<h2>Questions</h2><p><b>Q:</b> Why {n}?</p><p><b>A:</b> Because &lt;script&gt;alert({n})&lt;/script&gt;.</p>"""
FIELDS = {"name": "mine", "title": "My <b>", "role": "corpus", "format": "html", "licence": "all rights reserved"}
FIELDS |= {"access": "private", "cardiology": ["heart.html#02-chapter-2"]}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Return a function that writes a manifest of one book and its file, and gives the folder."""
    monkeypatch.setattr(paths, "MANIFESTS", tmp_path)
    (tmp_path / "sources").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "heart.html").write_text(BOOK.format("".join(CHAPTER.format(n=n) for n in (1, 2, 3))))

    def write(**fields):
        values = {**FIELDS, "path": str(tmp_path / "texts"), **fields}
        (tmp_path / "sources" / "mine.yaml").write_text(yaml.safe_dump(values))
        return tmp_path / "texts"

    return write


def test_a_preview_counts_what_is_kept_and_what_is_dropped(mine):
    folder = mine()
    found = preview.of(manifests.load("mine"), folder)
    assert found["counts"] == {
        **{"documents": 3, "sentences": 15, "glossary": 3, "questions": 3, "items": 3, "captions": 3, "bold_terms": 3}
    }
    assert found["pairs"]["definition"] == found["pairs"]["question"] == 3
    assert [n for n, _ in found["dropped"]] == [3, 3, 2, 0, 0]
    assert [(row["document"], row["topic"]) for row in found["documents"]] == [
        ("heart.html#01-chapter-1", "other"),
        ("heart.html#02-chapter-2", "cardiology"),
        ("heart.html#03-chapter-3", "other"),
    ]
    n_left, n = 6, 15 + 3 + 6  # in each chapter a command of LaTeX, and an answer that looks like a tag
    assert found["residue"]["per_thousand"] == pytest.approx(1000 * n_left / n)
    assert [piece for piece, _ in found["residue"]["examples"]] == ["\\a", "<script>", "\\a"]
    assert found["splits"] == {"train": 3, "dev": 0, "test": 0}, (
        "two of one topic and one of the other: too few to hold out"
    )
    assert len(found["samples"]) == 20 and preview.of(manifests.load("mine"), folder)["samples"] == found["samples"]


def test_the_commands_print_documents_and_a_preview(mine, tmp_path, capsys):
    folder = mine()
    assert command.main(["fetch", "mine"]) == 0
    assert capsys.readouterr().out == f"{folder}\n3 documents\n"
    assert command.main(["preview", "mine"]) == 0
    printed = capsys.readouterr().out
    assert "Counts: documents 3, sentences 15" in printed and "Pairs: definition 3" in printed
    assert "sentences of fewer than 20 characters" in printed and "heart.html#02-chapter-2" in printed
    assert command.main(["preview", "mine", "--html", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}\n"
    text = (tmp_path / "page.html").read_text()
    page = html.fromstring(text)
    assert page.findtext(".//h1") == "Preview of My <b>" and "keep it to yourself" in text
    assert len(page.xpath("//ol/li")) == 20 and not page.xpath("//script | //link | //img | //*[@src or @href]")


def test_pairs_instead_of_definitions_are_said_to_be_for_training(mine, capsys):
    said = "<h1>Load {0}</h1><p><b>Preload {0}</b> is the stretch of the wall before it contracts.</p>"
    said += "<p>With a higher preload {0} the heart beats with more strength.</p>"
    (mine(cardiology="all") / "heart.html").write_text(BOOK.format("".join(map(said.format, "abc"))))
    assert command.main(["preview", "mine"]) == 0
    printed = capsys.readouterr().out
    assert "instead of definitions (training takes those of train documents alone) 3" in printed
    assert preview.NO_GLOSSARY in printed and "train 1, dev 1, test 1" in printed


def test_a_book_that_cannot_be_held_out_is_told_on_a_line_of_its_own(mine, capsys):
    folder = mine()
    (folder / "heart.html").write_text(BOOK.format(CHAPTER.format(n=1)))
    mine(cardiology="all")
    assert command.main(["fetch", "mine"]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith(
        "mine: chapters found: 1, wanted: at least 3; nothing can be held out"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"access": "restricted"}, "mine is restricted: no sentence of it is shown"),
        (
            {"format": "pairs", "cardiology": []},
            "mine is of format pairs; a preview is made of cnxml, docx, epub, html",
        ),
    ],
)
def test_what_is_not_shown_is_refused(mine, capsys, fields, words):
    (mine(**fields) / "a.tsv").write_text("x")
    assert command.main(["preview", "mine"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(words)
