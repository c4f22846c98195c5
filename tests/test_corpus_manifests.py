"""Manifests and the files they promise: every wrong input is named, and nothing half-made stays behind."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import yaml

from cardioembed_study import paths
from cardioembed_study.corpus import manifests

REVISION = "0123456789abcdef0123456789abcdef01234567"
SHIPPED = sorted(manifests.names())
FETCH = """
import sys
from pathlib import Path
from cardioembed_study import paths
from cardioembed_study.corpus import manifests
paths.MANIFESTS = Path(sys.argv[1])
"""
WAITS = """
from cardioembed_study.corpus import archives

class Told(archives.FileLock):
    def acquire(self, *arguments, **options):
        try:
            return super().acquire(blocking=False)
        except TimeoutError:
            print("waits", flush=True)
            return super().acquire(*arguments, **options)

archives.FileLock = Told
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty room of manifests, an empty folder of downloads, no mirror."""
    for room in manifests.ROOMS:
        (tmp_path / "data_manifests" / room).mkdir(parents=True)
    monkeypatch.setattr(paths, "MANIFESTS", tmp_path / "data_manifests")
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.delenv("CARDIOEMBED_MIRROR", raising=False)
    monkeypatch.delenv("CARDIOEMBED_MIMIC", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


@pytest.fixture
def server():
    """Archives by address on the loopback; ``hold`` stops every answer half-way until ``go`` is set."""
    state = SimpleNamespace(archives={}, requests=[], hold=False, go=threading.Event())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append(self.path)
            body = state.archives.get(self.path)
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            half = len(body or b"") // 2 if state.hold else 0
            try:
                self.wfile.write((body or b"")[:half])
                self.wfile.flush()
                if state.hold:
                    state.go.wait(600)
                self.wfile.write((body or b"")[half:])
            except OSError:
                pass  # the reader was killed, as the test meant

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        threading.Thread(target=http_server.serve_forever, args=(0.02,), daemon=True).start()
        state.url = f"http://127.0.0.1:{http_server.server_port}"
        yield state
        state.go.set()
        http_server.shutdown()


BOOK = {"ch/one.md": b"# One\n\nThe pump rests between two beats.\n", "ch/two.md": b"# Two\n\nValves open one way.\n"}


def sidecar(files):
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in files.items())


def write(home, name="book", listed=None, room="sources", **fields):
    """Write a valid manifest, changed by ``fields`` (``None`` removes one), and its sidecar; ``listed`` may be text."""
    listed = BOOK if listed is None else listed
    values = {
        "name": name,
        "title": "A book",
        "role": "corpus",
        "format": "markdown",
        "source": "https://github.com/someone/book",
        "revision": REVISION,
        "archive": "http://127.0.0.1:9/nobody-listens",
        "licence": "CC-BY-4.0",
        "access": "open",
        "files": f"{name}.sha256",
    } | fields
    folder = home / "data_manifests" / room
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    if values["files"]:
        (folder / f"{name}.sha256").write_text(listed if isinstance(listed, str) else sidecar(listed))


def put(folder, files=None):
    for path, data in (BOOK if files is None else files).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def tar(files, top="book-0123"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(f"{top}/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def tar_with_link():
    """The book, its second file a link to a file outside."""
    link = tarfile.TarInfo("book-0123/ch/two.md")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    buffer = io.BytesIO(tar({"ch/one.md": BOOK["ch/one.md"]}))
    with (
        tarfile.open(fileobj=buffer) as honest,
        tarfile.open(fileobj=(hostile := io.BytesIO()), mode="w:gz") as archive,
    ):
        archive.addfile(honest.getmember("book-0123/ch/one.md"), io.BytesIO(BOOK["ch/one.md"]))
        archive.addfile(link)
    return hostile.getvalue()


def tar_of(size, kind=tarfile.REGTYPE):
    """Return an archive of which one member says that it has so many bytes."""
    member = tarfile.TarInfo("book-0123/ch/one.md")
    member.size, member.type = size, kind
    return gzip.compress(member.tobuf(tarfile.USTAR_FORMAT) + bytes(10_240))


def downloads():
    """What lies in the download folder, except the lock."""
    folder = paths.downloads()
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock") if folder.is_dir() else []


def refused(error, call, *words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def fetch_book():
    return manifests.fetch(manifests.load("book"))


# What is read


def test_documents_stand_in_the_order_of_the_sidecar(home):
    write(home, listed=dict(reversed(BOOK.items())))
    assert manifests.documents(manifests.load("book")) == ["ch/two.md", "ch/one.md"]


def test_a_reader_needs_only_a_folder_and_seven_lines(home):
    put(home / "mine")
    private = {"source": None, "revision": None, "archive": None, "files": None, "access": "private"}
    write(home, **private, path=str(home / "mine"), cardiology="all")
    source = manifests.load("book")
    put(home / "mine", {".ipynb_checkpoints/one-checkpoint.md": b"an editor's copy", "notes.docx": b""})
    assert manifests.documents(source) == sorted(BOOK)
    assert manifests.fetch(source) == home / "mine"


def test_a_link_that_leads_out_of_a_readers_folder_is_refused_and_one_within_is_read(home):
    put(home / "mine")
    private = {"source": None, "revision": None, "archive": None, "files": None, "access": "private"}
    write(home, **private, path=str(home / "mine"), cardiology="all")
    (home / "mine" / "within.md").symlink_to(home / "mine" / sorted(BOOK)[0])
    assert "within.md" in manifests.documents(manifests.load("book"))
    (home / "secret.md").write_text("Nobody may read this.")
    (home / "mine" / "away.md").symlink_to(home / "secret.md")
    refused(ValueError, lambda: manifests.load("book"), "away.md in", "leads out of it; put the file itself there")


def test_a_relative_path_starts_at_the_manifest(home):
    put(home / "data_manifests" / "primer")
    write(home, path="../primer")
    assert fetch_book() == home / "data_manifests" / "primer"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"licence": None, "licnce": "MIT"}, ["'licnce'; did you mean 'licence'?", "field 'licence' is missing"]),
        ({"access": "opne"}, ["field 'access' is 'opne'; did you mean 'open'?"]),
        ({"access": "all"}, ["field 'access' is 'all'; known: open, private, registered, restricted"]),
        ({"used_by": ["01_corpse"]}, ["field 'used_by' is '01_corpse'; did you mean '01_corpus'?"]),
        ({"revision": "main"}, ["revision is 'main'", "40 hex digits"]),
        ({"revision": 1234567}, ["field 'revision' is 1234567"]),
        ({"revision": None}, ["`revision`", "`path`"]),
        ({"folder": "a\n/../b"}, ["field 'folder'"]),
        ({"folder": "../elsewhere"}, ["field 'folder' is '../elsewhere'"]),
        ({"files": "/etc/passwd"}, ["field 'files' is '/etc/passwd'"]),
        ({"archive": "file:///etc/passwd"}, ["field 'archive' is 'file:///etc/passwd'"]),
        ({"name": "other"}, ["field 'name' is 'other'; write 'book'"]),
        ({"name": "Book!"}, ["field 'name' is 'Book!'; String should match"]),
        ({"format": "pdf"}, ["field 'format' is 'pdf'; a PDF", "marker, docling or nougat"]),
        ({"format": "word"}, ["field 'format' is 'word'; known: beir, cnxml"]),
        ({"role": "benchmark"}, ["field 'role' is 'benchmark', in sources/ it is 'corpus'"]),
        ({"cardiology": "m44800.md"}, ["field 'cardiology' is 'm44800.md'; wanted 'all', or a list of its files"]),
        ({"cardiology": [7]}, ["field 'cardiology' is [7]; wanted 'all', or a list of its files"]),
        ({"expect": {"documents": -1}}, ["field 'expect' is -1"]),
        ({"cardiology": ["ch/on.md"]}, ["'cardiology' names 'ch/on.md'", "did you mean 'ch/one.md'?"]),
        (
            {"cardiology": ["heart"]},
            ["'cardiology' names 'heart', no file of this source; known: ch/one.md, ch/two.md"],
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_file_and_the_near_miss(home, fields, words):
    write(home)
    file = home / "data_manifests" / "sources" / "book.yaml"
    values = yaml.safe_load(file.read_text()) | fields
    file.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    refused(ValueError, lambda: manifests.load("book"), "book.yaml: ", *words)
    with pytest.raises(ValueError, match=r"^(?!.*PydanticUndefined)"):
        manifests.load("book")


@pytest.mark.parametrize("text", [b"", b"just words", b"name: [unclosed", b"- a\n- list\n", b"title: caf\xe9"])
def test_a_file_that_is_no_mapping_is_named(home, text):
    write(home)
    (home / "data_manifests" / "sources" / "book.yaml").write_bytes(text)
    refused(ValueError, lambda: manifests.load("book"), "book.yaml")


def test_an_unknown_name_offers_the_near_miss_or_all_names(home):
    write(home)
    write(home, "other")
    refused(KeyError, lambda: manifests.load("bok"), "no manifest 'bok'; did you mean 'book'?")
    refused(KeyError, lambda: manifests.load("atlas"), "no manifest 'atlas'; known: book, other")


@pytest.mark.parametrize(
    "path", ["../out.md", "/etc/passwd", "a/../../out.md", "a//b.md", "./a.md", "..", "a/..", "C:/a.md", "a\\..\\b.md"]
)
def test_a_path_that_could_leave_the_folder_is_refused_with_its_line(home, path):
    write(home, listed=sidecar(BOOK) + f"{'a' * 64}  {path}\n")
    refused(ValueError, lambda: manifests.load("book"), "book.sha256, line 3", repr(path)[1:-1], "inside the folder")


@pytest.mark.parametrize("line", ["no hash here", f"{'A' * 64}  a.md", f"{'a' * 63}  a.md", f"{'a' * 64}  ch/one.md"])
def test_a_wrong_or_repeated_line_of_the_sidecar_is_named(home, line):
    write(home, listed=sidecar(BOOK) + line + "\n")
    refused(ValueError, lambda: manifests.load("book"), "book.sha256, line 3", line, "sha256sum")


def test_a_missing_sidecar_or_folder_is_named(home):
    write(home)
    (home / "data_manifests" / "sources" / "book.sha256").unlink()
    refused(FileNotFoundError, lambda: manifests.load("book"), "book.sha256 is missing")
    write(home, path="../nowhere", files=None)
    refused(FileNotFoundError, lambda: manifests.load("book"), "nowhere is not a folder", "'path' in book.yaml")
    (home / "data_manifests" / "nowhere").mkdir()
    refused(FileNotFoundError, lambda: manifests.load("book"), "nowhere holds no *.md")
    put(home / "data_manifests" / "nowhere", {"heart.epub": b""})
    refused(
        FileNotFoundError, lambda: manifests.load("book"), "heart.epub and no *.md; write `format: epub` in book.yaml"
    )
    write(home, path="../nowhere/heart.epub", files=None)
    refused(NotADirectoryError, lambda: manifests.load("book"), "heart.epub is a file; name its folder in 'path'")


def test_a_benchmark_of_ones_own_is_the_files_of_its_form(home):
    names = ["corpus.jsonl", "queries.jsonl", "qrels/dev.tsv", "qrels/test.tsv"]
    put(home / "mine", dict.fromkeys([*names, "notes.tsv", "other.jsonl"], b""))
    write(home, path=str(home / "mine"), room="benchmarks", role="benchmark", format="beir", files=None)
    assert manifests.documents(manifests.load("book")) == ["corpus.jsonl", *names[2:], "queries.jsonl"]
    write(home, path=str(home / "mine"), room="benchmarks", role="benchmark", format="pairs", files=None)
    assert manifests.documents(manifests.load("book")) == ["notes.tsv", *names[2:]]


TABLES = {f"{table}.csv": b"" for table in manifests.TABLES}


def write_mimic(home, **fields):
    """Write the manifest of a reader's own MIMIC-III, changed by ``fields``."""
    nothing = dict.fromkeys(["archive", "files"])
    write(
        home, **{"room": "clinical", "role": "clinical", "format": "mimic3", "access": "restricted"} | nothing | fields
    )
    return manifests.load("book")


def test_a_readers_own_mimic_is_where_the_variable_says(home, monkeypatch):
    source = write_mimic(home)
    folder = put(home / "my mimic", TABLES)
    monkeypatch.setenv("CARDIOEMBED_MIMIC", str(folder))
    assert manifests.clinical_folder(source) == manifests.fetch(source) == folder
    assert manifests.documents(source) == []


def test_a_mimic_that_is_not_here_says_how_to_get_it_and_where_to_say_so(home, monkeypatch):
    source = write_mimic(home)
    for call in (manifests.clinical_folder, manifests.fetch):
        refused(FileNotFoundError, lambda call=call: call(source), "PhysioNet", source.source, "set CARDIOEMBED_MIMIC")
    monkeypatch.setenv("CARDIOEMBED_MIMIC", str(home / "mimc"))
    refused(FileNotFoundError, lambda: manifests.clinical_folder(source), "mimc, which is not a folder")


@pytest.mark.parametrize("names", [TABLES, {f"{name.lower()}.gz": b"" for name in TABLES}])
def test_the_path_of_a_manifest_stands_before_the_variable_and_only_the_five_tables_count(home, monkeypatch, names):
    monkeypatch.setenv("CARDIOEMBED_MIMIC", str(home / "elsewhere"))
    folder = put(home / "mine", names | {"CHARTEVENTS.csv": b"", "notes.txt": b""})
    source = write_mimic(home, path=str(folder), source=None, revision=None)
    assert manifests.clinical_folder(source) == manifests.fetch(source) == folder
    assert manifests.documents(source) == sorted(names)


def test_a_mimic_with_listed_files_is_found_and_verified_as_any_other_source(home, monkeypatch):
    source = write_mimic(home, listed=TABLES, files="book.sha256", access="open")
    monkeypatch.setenv("CARDIOEMBED_MIRROR", str(home / "mirror"))
    monkeypatch.setenv("CARDIOEMBED_MIMIC", str(home / "elsewhere"))
    folder = put(home / "mirror" / "book", TABLES)
    assert manifests.clinical_folder(source) == folder
    (folder / "PATIENTS.csv").write_bytes(b"other")
    refused(ValueError, lambda: manifests.clinical_folder(source), "PATIENTS.csv", "wanted")


def test_only_a_restricted_mimic_may_be_without_folder_and_list(home):
    refused(ValueError, lambda: write_mimic(home, access="open"), "give `path` (a local folder)")


def test_a_generated_source_has_no_files_and_no_folder(home):
    fields = {"format": "generated", "source": None, "revision": None, "access": "open"}
    source = write_mimic(home, **fields)
    assert manifests.documents(source) == []
    refused(FileNotFoundError, lambda: manifests.fetch(source), "book has no files to fetch", "01_notes")
    refused(ValueError, lambda: manifests.clinical_folder(source), "book is of format 'generated'")
    for field, value in (("path", "."), ("files", "book.sha256"), ("archive", "http://127.0.0.1:9/a")):
        refused(
            ValueError, lambda extra={field: value}: write_mimic(home, **fields | extra), f"`{field}`", "has no files"
        )


def test_counts_are_compared_only_where_expected_and_named_both(home):
    write(home, expect={"documents": 2, "glossary": 5})
    source = manifests.load("book")
    manifests.check_counts(source, {"documents": 2, "glossary": 5, "sentences_raw": 9})
    wrong = {"documents": 1, "sentences_raw": 9}
    counts = "book: documents: found 1, expected 2; glossary: found none, expected 5"
    refused(ValueError, lambda: manifests.check_counts(source, wrong), counts, "book.yaml")


# What is fetched


def test_the_mirror_is_used_before_the_network(home, server, monkeypatch):
    write(home, archive=f"{server.url}/a")
    monkeypatch.setenv("CARDIOEMBED_MIRROR", str(home / "mirror"))
    assert put(home / "mirror" / "book") == fetch_book()
    assert server.requests == []
    assert downloads() == []


def test_a_mirror_without_the_folder_gives_way_to_the_network_and_then_to_the_download(home, server, monkeypatch):
    server.archives["/a"] = tar(BOOK | {"not/listed.md": b"more"})
    write(home, archive=f"{server.url}/a")
    (home / "mirror").mkdir()
    monkeypatch.setenv("CARDIOEMBED_MIRROR", str(home / "mirror"))
    folder = fetch_book()
    assert folder == paths.downloads() / f"book@{REVISION[:12]}"
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.md")} == BOOK
    assert fetch_book() == folder
    assert server.requests == ["/a"]
    assert downloads() == [folder.name]


def test_a_mirror_that_is_no_folder_is_refused(home, monkeypatch):
    write(home)
    monkeypatch.setenv("CARDIOEMBED_MIRROR", str(home / "mirorr"))
    refused(FileNotFoundError, fetch_book, "CARDIOEMBED_MIRROR", "mirorr", "unset")


@pytest.mark.parametrize("place", ["path", "mirror", "download"])
def test_a_missing_file_is_named_with_its_folder(home, monkeypatch, place):
    folder = {
        "path": home / "here",
        "mirror": home / "m" / "book",
        "download": paths.downloads() / f"book@{REVISION[:12]}",
    }
    write(home, path=str(home / "here") if place == "path" else None)
    if place == "mirror":
        monkeypatch.setenv("CARDIOEMBED_MIRROR", str(home / "m"))
    (put(folder[place]) / "ch" / "two.md").unlink()
    refused(FileNotFoundError, fetch_book, "ch/two.md is missing", str(folder[place]), "; ")


@pytest.mark.parametrize("place", ["path", "mirror", "download"])
def test_a_changed_file_is_named_with_both_hashes(home, monkeypatch, place):
    folder = {
        "path": home / "here",
        "mirror": home / "m" / "book",
        "download": paths.downloads() / f"book@{REVISION[:12]}",
    }
    write(home, path=str(home / "here") if place == "path" else None)
    if place == "mirror":
        monkeypatch.setenv("CARDIOEMBED_MIRROR", str(home / "m"))
    (put(folder[place]) / "ch" / "two.md").write_bytes(b"changed")
    found, wanted = (hashlib.sha256(data).hexdigest()[:12] for data in (b"changed", BOOK["ch/two.md"]))
    refused(ValueError, fetch_book, "ch/two.md", str(folder[place]), f"sha256 is {found}…, wanted {wanted}…; ")


def test_no_network_names_the_address_the_variable_and_the_place(home):
    write(home, folder="shelf")
    refused(FileNotFoundError, fetch_book, "http://127.0.0.1:9/nobody-listens", "CARDIOEMBED_MIRROR", "in shelf/")
    assert downloads() == []


def test_a_source_without_an_archive_says_where_to_get_it(home):
    write(home, archive=None)
    refused(FileNotFoundError, fetch_book, "https://github.com/someone/book", "CARDIOEMBED_MIRROR")


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (tar(BOOK | {"ch/two.md": b"other"}), ValueError, ["ch/two.md", "wanted", "nothing was kept"]),
        (tar({"ch/one.md": BOOK["ch/one.md"]}), FileNotFoundError, ["ch/two.md is missing", "nothing was kept"]),
        (tar(BOOK)[:-30], ValueError, ["damaged", "nothing was kept"]),
        (tar_with_link(), FileNotFoundError, ["ch/two.md is missing", "nothing was kept"]),
        (tar(BOOK)[:60] + b"\xff" * 40 + tar(BOOK)[100:], ValueError, ["damaged", "nothing was kept"]),
        (tar_of(300_000_000), ValueError, ["unfolds to more than 104,857,600", "ch/one.md' to 300,000,000 of them"]),
        (tar_of(300_000_000, tarfile.XHDTYPE), ValueError, ["damaged (a header of 300,000,000 bytes, wanted at most"]),
        (tar_of(300_000_000, tarfile.GNUTYPE_LONGNAME), ValueError, ["damaged (a header of 300,000,000 bytes"]),
        (b"<html>please log in</html>", ValueError, ["damaged", "nothing was kept"]),
        (None, FileNotFoundError, ["cannot be downloaded (HTTPError)", "CARDIOEMBED_MIRROR"]),
    ],
)
def test_a_wrong_archive_leaves_nothing_behind(home, server, body, error, words):
    server.archives["/a"] = body
    write(home, archive=f"{server.url}/a")
    refused(error, fetch_book, *words)
    assert downloads() == []


def test_members_that_lead_outside_or_are_links_are_never_written(home, server):
    hostile = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(tar(BOOK))) as honest,
        tarfile.open(fileobj=hostile, mode="w:gz") as archive,
    ):
        for name in ("../out.md", "/tmp/../out.md", "book/../../out.md", "book/../out.md"):
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("book/ch")
        link.type, link.linkname = tarfile.SYMTYPE, str(home)
        archive.addfile(link)
        for member in honest:
            archive.addfile(member, honest.extractfile(member))
    server.archives["/a"] = hostile.getvalue()
    write(home, archive=f"{server.url}/a")
    folder = fetch_book()
    assert not list(home.rglob("out.md"))
    assert not (folder / "ch").is_symlink()
    assert not (home / "one.md").exists()


def test_sources_of_one_archive_are_downloaded_once(home, server):
    server.archives["/a"] = tar(BOOK)
    for path, data in BOOK.items():
        name = Path(path).stem
        write(home, name, listed={path: data}, archive=f"{server.url}/a", folder="shelf")
    folders = {manifests.fetch(manifests.load(name)) for name in ("one", "two")}
    assert folders == {paths.downloads() / f"shelf@{REVISION[:12]}"}
    assert server.requests == ["/a"]


# What can go wrong while it is fetched


def start(home, before=""):
    code = FETCH + before + "\nprint(manifests.fetch(manifests.load('book')))"
    command = [sys.executable, "-c", code, str(home / "data_manifests")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def big_book(home, server):
    """Publish a book of 300 kB that does not compress."""
    files = BOOK | {"ch/three.md": b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(9600))}
    server.archives["/a"] = tar(files)
    write(home, listed=files, archive=f"{server.url}/a")


def half_downloaded():
    return any(file.stat().st_size > 100_000 for file in paths.downloads().glob("*.partial-*/archive"))


def wait_until(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def test_a_killed_download_is_cleared_away_by_the_next(home, server):
    big_book(home, server)
    server.hold = True
    process = start(home)
    wait_until(half_downloaded, process)
    process.kill()
    process.communicate()
    assert [re.sub("partial-.*", "partial", name) for name in downloads()] == [f"book@{REVISION[:12]}.partial"]
    server.hold = False
    folder = fetch_book()
    assert downloads() == [folder.name]


def test_two_processes_download_once(home, server):
    big_book(home, server)
    server.hold = True
    first = start(home)
    wait_until(half_downloaded, first)
    second = start(home, WAITS)
    assert second.stdout.readline() == "waits\n"
    server.go.set()
    for process in (first, second):
        out, err = process.communicate(timeout=600)
        assert out.strip() == str(paths.downloads() / f"book@{REVISION[:12]}"), err
    assert server.requests == ["/a"]


def test_a_full_disk_is_named_and_leaves_nothing_behind(home, server):
    pytest.importorskip("resource", reason="needs POSIX file-size limits, which stand in for a full disk")
    big_book(home, server)
    process = start(home, "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))")
    _, err = process.communicate(timeout=600)
    last = err.strip().splitlines()[-1]
    assert process.returncode == 1
    assert last.startswith("OSError: ") and str(paths.downloads()) in last and "CARDIOEMBED_ARTIFACTS" in last
    assert downloads() == []


# Sealing


def test_sealing_makes_a_changed_local_folder_whole_again(home):
    folder = put(home / "data_manifests" / "primer")
    write(home, path="../primer")
    (folder / "zz.md").write_text("# A new chapter\n")
    refused(ValueError, fetch_book, "zz.md", "is not listed in book.sha256", "run `cardioembed seal book`")
    assert manifests.seal("book").name == "book.sha256"
    assert fetch_book() == folder
    assert manifests.documents(manifests.load("book")) == [*sorted(BOOK), "zz.md"]
    assert sorted(p.name for p in (home / "data_manifests" / "sources").iterdir()) == ["book.sha256", "book.yaml"]


def test_a_fixed_revision_is_never_sealed(home):
    write(home)
    before = (home / "data_manifests" / "sources" / "book.sha256").read_bytes()
    refused(ValueError, lambda: manifests.seal("book"), "fixed at revision", REVISION)
    assert (home / "data_manifests" / "sources" / "book.sha256").read_bytes() == before


def test_the_commands_print_what_they_made_or_one_sentence(home, capsys):
    folder = put(home / "data_manifests" / "primer")
    write(home, path="../primer")
    (folder / "zz.md").write_text("# A new chapter\n")
    assert manifests.command("fetch", "book") == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("zz.md in ") and printed.err.count("\n") == 1
    assert manifests.command("seal", "book") == 0
    assert capsys.readouterr() == (f"{home / 'data_manifests' / 'sources' / 'book.sha256'}\n", "")
    assert manifests.command("fetch", "book") == 0
    assert capsys.readouterr() == (f"{folder}\n", "")
    assert manifests.command("fetch", "bok") == 1
    assert capsys.readouterr() == ("", "no manifest 'bok'; did you mean 'book'?\n")


def test_the_command_line_ends_in_one_sentence():
    command = [sys.executable, "-m", "cardioembed_study.corpus.manifests", "seal", "openstax_nutritoin"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("no manifest 'openstax_nutritoin'; did you mean 'openstax_nutrition'?")
    assert "Traceback" not in done.stderr


# What is shipped


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_manifest_loads_and_says_what_its_licence_asks(name):
    source = manifests.load(name)
    if source.role == "corpus" or source.format == "medquad":
        assert source.expect["documents"] == len(manifests.documents(source))
    assert source.expect or source.format == "generated"
    assert source.stands_for or source.access == "restricted" or source.role != "clinical"
    assert source.attribution and source.used_by
    assert not set(source.licence.split("-")) & {"NC", "ND"} or source.access != "open"


def test_no_name_is_given_twice_and_every_sidecar_has_its_manifest():
    files = [file for room in manifests.ROOMS for file in (paths.MANIFESTS / room).iterdir()]
    yamls = [file.stem for file in files if file.suffix == ".yaml"]
    assert len(yamls) == len(set(yamls))
    assert {file.stem for file in files if file.suffix == ".sha256"} <= set(yamls)


def test_every_notebook_can_be_named_in_used_by():
    assert {path.stem for path in paths.NOTEBOOKS.glob("*.ipynb")} <= set(get_args(manifests.Notebook))


@pytest.mark.parametrize("name", [n for n in SHIPPED if manifests.load(n).path])
def test_local_texts_are_sealed(name):
    manifests.fetch(manifests.load(name))


@functools.cache
def mirror():
    return Path(os.environ.get("CARDIOEMBED_MIRROR", paths.ROOT.parent / "shared" / "data"))


@pytest.mark.parametrize("name", [n for n in SHIPPED if manifests.load(n).files and not manifests.load(n).path])
def test_the_mirror_holds_exactly_what_the_manifest_lists(name, monkeypatch):
    source = manifests.load(name)
    if not (mirror() / source.folder).is_dir():
        pytest.skip(f"no {source.folder} in {mirror()}; set CARDIOEMBED_MIRROR to a folder that has it")
    monkeypatch.setenv("CARDIOEMBED_MIRROR", str(mirror()))
    assert manifests.fetch(source) == mirror() / source.folder
