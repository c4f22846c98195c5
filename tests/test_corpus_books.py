"""A book of any common format gives its chapters, under names that stay; what cannot be read ends in one sentence."""

import html as html_module
import io
import re
import subprocess
import zipfile
from types import SimpleNamespace

import pypandoc
import pytest

from cardioembed_study import paths
from cardioembed_study.corpus import books, cleaning, manifests, passages, readers

CHAPTER = (
    "<h1>{title}</h1><p>The <b>{term}</b> of a valve is the part that closes it, and it is thin.</p>"
    "<h2>Pressure</h2><p>It is 10<sup>3</sup> Pa for p &lt; 0.05, by the <i>rule</i> of <a href='#x'>flow</a>.</p>"
    "<ul><li>One item of the list says this.</li></ul>"
    "<h2>Glossary</h2><dl><dt>{term}</dt><dd>the leaf that shuts</dd></dl>"
)
TITLES = {"Valves": "cusp", "Walls": "septum", "Größe & flow": "lumen"}
FORMATS = ("epub", "docx", "odt", "latex", "html")


def page(titles=TITLES):
    return "<html><body>" + "".join(CHAPTER.format(title=t, term=titles[t]) for t in titles) + "</body></html>"


def made(html, format):
    """Return a book of a format, made by pandoc's own writer."""
    command = [pypandoc.get_pandoc_path(), "-f", "html", "-t", format, "--standalone", "--metadata", "title=A book"]
    data = subprocess.run([*command, "-o", "-"], input=html.encode(), capture_output=True, check=True).stdout
    return data.replace(
        b"\\tightlist\n\\item", b"\\item"
    )  # in LaTeX, a command that hides from pandoc itself the terms of a list


def zipped(**entries):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        for name, text in entries.items():
            packed.writestr(name.replace("__", "/").replace("_", "."), text)
    return data.getvalue()


def damaged(method, at):
    """Return a zip of one text in which ten bytes are others; its only name has one letter, so that its data begin at 31."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as packed:
        packed.writestr("a", bytes(range(200)))
    return data.getvalue()[:at] + b"\xff" * 10 + data.getvalue()[at + 10 :]


def prepare(folder, contents, format="epub", cardiology="all"):
    """Return what `passages.prepare` makes of files with these contents."""
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    source = SimpleNamespace(name="book", format=format, cardiology=cardiology)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "documents", lambda _: list(contents))
        return passages.prepare(source, folder)


def documents(frame):
    return frame["document"].unique(maintain_order=True).to_list()


def refused(call, *words):
    with pytest.raises(ValueError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_every_format_of_the_manifests_is_read():
    assert books.FORMATS.keys() == manifests.BOOKS.keys()
    assert {*books.FORMATS, *readers.READERS} < manifests.PATTERNS.keys()


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_same_chapters_sentences_and_entries(tmp_path, format):
    file = f"heart.{format}"
    html = page()
    if format == "odt":  # it has no definition lists: a glossary is written as it is printed
        html = html.replace("<dl><dt>", "<p><b>").replace("</dt><dd>", "</b>: ").replace("</dd></dl>", "</p>")
    frame, counts = prepare(tmp_path, {file: made(html, format)}, format)
    names = [name.partition("-")[2] for name in documents(frame)]
    assert names == ["valves", "walls", "grosse-flow"] and documents(frame)[0].startswith(f"{file}#0")
    assert counts["documents"] == counts["glossary"] == 3 and counts["blocks_item"] == 3
    rows = frame.filter(document=documents(frame)[0]).select("section", "kind", "terms", "text").rows()
    sentence = "The cusp of a valve is the part that closes it, and it is thin."
    assert rows[0] == ("Valves", "sentence", ["cusp"], sentence)
    assert rows[1][0] == "Valves > Pressure" and rows[1][3].startswith("It is 10^3 Pa for p")
    assert rows[2][3] == "One item of the list says this."
    assert rows[3] == ("Valves > Glossary", "glossary", ["cusp"], "the leaf that shuts")


def test_names_are_unique_and_stay_where_titles_repeat(tmp_path):
    html = (
        page()
        + "<h1>Valves</h1><p>Once more the valves are the subject of a chapter.</p>"
        + "<h1>♥</h1><p>Nobody has given this one a name.</p>"
    )
    found = documents(prepare(tmp_path, {"a.html": html.encode()}, "html")[0])
    assert found == [
        "a.html#01-valves",
        "a.html#02-walls",
        "a.html#03-grosse-flow",
        "a.html#04-valves",
        "a.html#05-untitled",
    ]


@pytest.mark.parametrize(
    ("html", "wanted"),
    [
        ("<h1>Book</h1><h2>A</h2><p>x</p><h3>s</h3><p>x</p><h2>B</h2><p>x</p>", ["book", "a", "b"]),
        ("<h1>Part I</h1><h2>A</h2><p>x</p><h2>B</h2><p>x</p><h1>Part II</h1><h2>C</h2><p>x</p>", ["a", "b", "c"]),
        ("<h1>Preface</h1><p>x</p><h1>Book</h1><h2>A</h2><p>x</p><h2>B</h2><p>x</p>", ["a", "b"]),
        ("<p>x</p><h3>A</h3><p>x</p><h3>B</h3><p>x</p>", ["start", "a", "b"]),
        ("<h1>A</h1><h2>s</h2><p>x</p><h2>t</h2><p>x</p><h1>B</h1><p>x</p>", ["a", "b"]),
        ("<p>x</p><p>x</p>", ["start"]),
        ("<h1>A</h1><p>x</p><h2>Structure</h2><p>x</p><h2>Glossary</h2><p>x</p>", ["start"]),
    ],
)
def test_chapters_begin_at_the_top_most_level_that_is_repeated(html, wanted):
    found = readers.documents(
        html.replace("x</p>", "It is a part of the heart.</p>").encode(), "html", "a.html", divide=True
    )
    assert [name.partition("-")[2] for name, _ in found] == [name for name in wanted if name != "book"]


def test_three_files_are_chapters_already_but_every_epub_is_a_book(tmp_path):
    html = page({"Valves": "cusp", "Walls": "septum"})
    for format, n in (("html", 3), ("epub", 6)):
        data = made(html, format)
        names = documents(prepare(tmp_path, {f"{k}.{format}": data for k in "abc"}, format)[0])
        assert len(names) == n and (format == "epub" or names == ["a.html", "b.html", "c.html"])


def test_a_topic_is_a_whole_book_or_some_of_its_chapters(tmp_path):
    book = {"heart.html": page().encode()}
    for cardiology, n in (("all", 3), (("heart.html",), 3), (("heart.html#02-walls",), 1), ((), 0)):
        frame, _ = prepare(tmp_path, book, "html", cardiology)
        assert frame.filter(topic="cardiology")["document"].n_unique() == n
    wrong = ("heart.html#02-wall",)
    refused(
        lambda: prepare(tmp_path, book, "html", wrong),
        "book.yaml: field 'cardiology' names 'heart.html#02-wall'",
        "02-walls'",
    )


def test_what_is_no_prose_is_left_out_and_a_framed_box_is_not():
    html = (
        "<h1>A</h1><p>(a) Cut across.</p><pre># no heading</pre><table><tr><td>left</td><td>right</td></tr></table>"
        "<table><tr><td><p>A box about the heart.</p></td></tr></table><blockquote><p>A quotation.</p></blockquote>"
        "<figure><img src='file:///etc/passwd' alt='none'><figcaption>Figure 1.2 Seen from above.</figcaption></figure>"
        "<p>H<sub>2</sub>O<br>and a*b_c*d [1] &amp; &lt;tag&gt;</p><script>alert(1)</script><!-- gone -->"
    )
    [(ending, text)] = books.chapters(html.encode(), "html", "a.html", divide=False)
    assert ending == "" and text.split("\n\n")[:6] == [
        *("# A", "(a) Cut across.", "A box about the heart.", "A quotation.", "Figure 1.2 Seen from above."),
        "H<sub>2</sub>O\\\n" r"and a\*b_c\*d \[1\] & \<tag\>",
    ]


def test_latex_reads_no_file_of_this_machine(tmp_path):
    (tmp_path / "secret.tex").write_text("Nobody may read this.")
    other = tmp_path / "secret"
    text = (
        rf"\section{{A}} The text of the book is about the heart and its valves. \input{{{other}}} \include{{{other}}}"
    )
    assert "Nobody" not in str(books.chapters(text.encode(), "latex", "a.tex", divide=False))


# What cannot be read

GERMAN = (
    "Das Herz ist ein Muskel, der das Blut durch den Körper pumpt, und die Klappen öffnen und schließen sich dabei. "
)
LOCKED = '<encryption><CipherReference URI="OEBPS/ch1.xhtml"/></encryption>'


@pytest.mark.parametrize(
    ("data", "format", "words"),
    [
        (b"%PDF-1.7 ...", "epub", ["the file is a PDF", "marker, docling or nougat", "format markdown"]),
        (b"not a zip", "epub", ["no sound epub", "copy it anew"]),
        (zipped(word__document_xml="<a")[:-9], "docx", ["no sound docx", "copy it anew"]),
        (zipped(a_txt="x"), "docx", ["pandoc finds it no sound docx", "save it anew"]),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            "docx",
            ["has a password or is an old .doc", "wanted .docx", "save a copy"],
        ),
        ({"META-INF/encryption.xml": LOCKED}, "epub", ["the text is locked", "without a password"]),
        ({"META-INF/manifest.xml": "<m:encryption-data/>"}, "odt", ["the text is locked", "without a password"]),
        (
            made("<img src='scan.png'>", "epub"),
            "epub",
            ["2 words of text, wanted at least 10", "marker, docling or nougat"],
        ),
        (
            made(f"<h1>Herz</h1><p>{GERMAN * 5}</p>", "docx"),
            "docx",
            ["0% of its words are common English", "at least 10%"],
        ),
        (b"caf\xe9 <p>the heart</p>", "html", ["byte 0xe9 at position 3 is not UTF-8", "iconv"]),
        (b"<p></p>", "html", ["0 words of text, wanted at least 10", "marker, docling or nougat"]),
        (b"\\begin{document} \\textbf{the heart", "latex", ["pandoc finds it no sound latex"]),
        (
            b"<blockquote>" * 1000 + b"the heart" + b"</blockquote>" * 1000,
            "html",
            ["within one another", "save it anew"],
        ),
        (b"<ul><li>" * 1000 + b"the heart" + b"</li></ul>" * 1000, "html", ["within one another", "save it anew"]),
        *(
            (damaged(method, at), "epub", ["no sound epub", "copy it anew"])
            for method in (8, 12, 14)
            for at in (31, 50)
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_what_was_found_and_the_next_step(data, format, words):
    if isinstance(data, dict):
        data = zipped(**{name.replace("/", "__").replace(".", "_"): text for name, text in data.items()})
    refused(lambda: list(readers.documents(data, format, f"heart.{format}", divide=True)), f"heart.{format}: ", *words)


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_entry_is_told_with_the_files_name_however_it_is_packed(packing):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", packing) as packed:
        packed.writestr("a.xhtml", "<p>The heart beats.</p>" * 9)
    data.getbuffer()[46:56] = b"\xff" * 10  # behind the heads of the entry, of 37 bytes, and of LZMA, of 9
    refused(
        lambda: books.chapters(data.getvalue(), "epub", "heart.epub", True), "heart.epub: no sound epub", "copy it anew"
    )


def test_a_private_character_of_a_book_does_not_end_its_chapter():
    plain, marked = (
        books.chapters(page().replace("leaf", f"leaf{sign}").encode(), "html", "a.html", True)
        for sign in ("", "\ue000")
    )
    assert plain == marked and len(plain) > 1


def test_a_zip_that_unfolds_to_too_much_is_refused_unread(monkeypatch):
    monkeypatch.setattr(books, "UNFOLDED", 1000)
    data = zipped(word__document_xml="x" * 1001, word__media__a_png="x" * 9000)
    refused(
        lambda: books.chapters(data, "docx", "heart.docx", True), "1,001 bytes of text, wanted at most 1,000", "divide"
    )


def test_a_missing_pandoc_is_one_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pypandoc", None)
    refused(
        lambda: books.chapters(b"<p>x</p>", "html", "heart.html", True),
        *("heart.html: ", "not installed", "python -m pip install pypandoc_binary"),
    )


def test_pandoc_that_takes_too_long_is_stopped(monkeypatch):
    monkeypatch.setattr(books, "SECONDS", 0.001)
    refused(
        lambda: books.chapters(b"<p>x</p>", "html", "heart.html", True),
        "pandoc took more than 0.001 s",
        "one a chapter",
    )


@pytest.mark.parametrize("titles", [["Valves"], ["Valves", "Walls"]])
def test_a_book_of_which_nothing_can_be_held_out_is_read_with_a_warning(tmp_path, titles):
    html = re.sub("<h2>.*?</h2>", "", page({title: TITLES[title] for title in titles}))
    with pytest.warns(
        UserWarning,
        match=rf"book: chapters found: {len(titles)}, wanted: at least 3; nothing can be held out.*Heading 1",
    ):
        frame, _ = prepare(tmp_path, {"a.html": html.encode()}, "html")
    assert set(passages.split(frame)["split"]) == {"train"}


def test_a_word_file_that_is_named_otherwise_is_told_apart():
    with pytest.raises(ValueError, match=r"heart\.epub: its content is of format docx, not epub; name it \.docx"):
        books.chapters(zipped(word__document_xml="<w/>"), "epub", "heart.epub", divide=True)


def test_a_folder_of_pdf_files_is_told_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "heart.PDF").touch()
    monkeypatch.setattr(manifests, "names", lambda: {"book": tmp_path / "book.yaml"})
    source = SimpleNamespace(name="book", format="epub", path=str(tmp_path), files=None, cardiology="all")
    with pytest.raises(FileNotFoundError, match=r"holds PDF files and no \*\.epub; .*marker, docling or nougat"):
        manifests.documents(source)


# Whole books that nobody prepared


def chapter_of(read):
    """Return the blocks of a document as HTML, its sections as headings; a return to a section above has none."""
    lines, at = [], ()
    for block in read:
        section, text = block.section, html_module.escape(block.text)
        same = next(
            (k for k, (a, b) in enumerate(zip(section, at, strict=False)) if a != b), min(len(section), len(at))
        )
        lines += [f"<h{k + 1}>{html_module.escape(section[k])}</h{k + 1}>" for k in range(same, len(section))]
        at = section
        for term in map(html_module.escape, block.terms):
            text = text.replace(term, f"<b>{term}</b>", 1)
        if block.kind == "glossary":
            text = f"<dl><dt>{html_module.escape(block.terms[0])}</dt><dd>{html_module.escape(block.text)}</dd></dl>"
        marks = {"item": "<ul><li>{}</li></ul>", "caption": "<figure><img src='x'><figcaption>{}</figcaption></figure>"}
        marks |= {"question": "<p><b>Q:</b> {}</p>", "answer": "<p><b>A:</b> {}</p>", "glossary": "{}"}
        lines.append(marks.get(block.kind, "<p>{}</p>").format(text))
    return "\n".join(lines)


def found(frame, kind):
    """Return the texts of one kind with their terms, of which a sentence's may be set in bold elsewhere."""
    rows = frame.filter(kind=kind).select("terms", "text").rows()
    return {(terms[0].lower() if kind == "glossary" else "", text) for terms, text in rows}


@pytest.mark.slow
@pytest.mark.parametrize("format", ["epub", "docx"])
def test_a_book_of_openstax_survives_the_way_through_another_format(tmp_path, format):
    source = manifests.load("openstax_nutrition")
    mirror = paths.mirror()
    if mirror is None or not (mirror / source.folder).is_dir():
        pytest.skip("set CARDIOEMBED_MIRROR to a mirror that has OpenStax's nutrition textbook")
    listed = manifests.documents(source)[:30]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "documents", lambda _: listed)
        read = [blocks for _, _, blocks in passages.documents(source, mirror / source.folder) if blocks]
        before, _ = passages.prepare(source, mirror / source.folder)
    after, counts = prepare(tmp_path, {f"book.{format}": made("\n".join(map(chapter_of, read)), format)}, format)
    assert counts["documents"] == before["document"].n_unique()
    for kind, floor in (("sentence", 0.97), ("glossary", 0.9)):
        wanted = found(before, kind)
        assert len(wanted) > 100 and len(wanted & found(after, kind)) >= floor * len(wanted)
    assert sum(cleaning.residue(text) is not None for text in after["text"]) <= 0.002 * after.height


def test_the_authors_command_for_terms_and_references_without_a_number_are_read_in_latex():
    text = rb"\section{Valves}The \keyterm{cusp} is a leaf of it, as Figure \ref{cusp} shows. But Section \ref{a} is not there."
    [(_, blocks)] = readers.documents(text, "latex", "valves.tex")
    assert [(block.text, block.terms) for block in blocks] == [
        ("The cusp is a leaf of it, as the figure shows. But \ufffc is not there.", ("cusp",))
    ]
