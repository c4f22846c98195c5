"""What is read is what was written: Parquet files with a hash beside them."""

import numpy as np
import polars as pl
import pytest

from cardioembed_lib import files
from cardioembed_study import paths
from cardioembed_study.corpus import pairs

PAIRS = pl.DataFrame(
    {name: [f"{name} of pair {n}" for n in range(40)] for name, kind in pairs.SCHEMA.items() if kind == pl.String}
)


def written(file, frame=PAIRS):
    with files.replacing(file) as aside:
        frame.write_parquet(aside)
    return file


def listing(file):
    return file.with_name(f"{file.name}.sha256")


def flipped(file, place, bit=0):
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << bit
    file.write_bytes(content)


OTHER = "definition.parquet: sha256 is [0-9a-f]{12}, definition.parquet.sha256 says [0-9a-f]{12};"
NOTHING = "definition.parquet: sha256 is [0-9a-f]{12}, definition.parquet.sha256 says nothing;"
DAMAGE = {
    "empty": (lambda f: f.write_bytes(b""), OTHER),
    "cut": (lambda f: f.write_bytes(f.read_bytes()[:-7]), OTHER),
    "longer": (lambda f: f.write_bytes(f.read_bytes() + b"x"), OTHER),
    "zeros": (lambda f: f.write_bytes(bytes(f.stat().st_size)), OTHER),
    "text": (lambda f: f.write_text("pairs"), OTHER),
    "other rows": (lambda f: PAIRS.reverse().write_parquet(f), OTHER),
    "a column less": (lambda f: PAIRS.drop("split").write_parquet(f), OTHER),
    "another kind's": (lambda f: f.write_bytes(written(f.with_name("heading.parquet"), PAIRS[:9]).read_bytes()), OTHER),
    "missing": (lambda f: f.unlink(), "definition.parquet is missing;"),
    "of before, without a hash": (
        lambda f: listing(f).unlink(),
        "definition.parquet.sha256, which says what was written, is missing;",
    ),
    "an empty hash": (lambda f: listing(f).write_bytes(b""), NOTHING),
    "a hash cut short": (lambda f: listing(f).write_bytes(listing(f).read_bytes()[:40]), NOTHING),
    "another kind's hash": (
        lambda f: listing(f).write_text(listing(written(f.with_name("heading.parquet"))).read_text()),
        NOTHING,
    ),
    "a bit of the hash": (lambda f: flipped(listing(f), 5), "sha256"),
    "killed between hash and file": (
        lambda f: listing(f).write_bytes(listing(written(f.with_name("x") / f.name, PAIRS[:9])).read_bytes()),
        OTHER,
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_pairs_that_are_not_what_was_written_are_refused_until_they_are_made_again(tmp_path, damage):
    file = written(tmp_path / "pairs" / "definition.parquet")
    harm, problem = DAMAGE[damage]
    harm(file)
    remedy = " run notebooks/01_corpus.ipynb with this profile (first|again), or `make book`$"
    with pytest.raises((ValueError, FileNotFoundError), match=rf"^[^\n]*{problem}[^\n]*{remedy}"):
        paths.need(file, "01_corpus")
    assert pl.read_parquet(paths.need(written(file), "01_corpus")).equals(PAIRS)


def test_any_flipped_bit_of_a_parquet_file_is_refused(tmp_path):
    file, draw = written(tmp_path / "definition.parquet"), np.random.default_rng(0)
    right = file.read_bytes()
    for place in draw.integers(0, len(right), 200):
        file.write_bytes(right)
        flipped(file, place, draw.integers(8))
        with pytest.raises(ValueError, match=OTHER):
            paths.need(file, "01_corpus")


def test_the_hash_is_in_the_form_of_coreutils_and_other_files_have_none(tmp_path):
    file = written(tmp_path / "definition.parquet")
    assert listing(file).read_text() == f"{files.sha256(file)}  definition.parquet\n"
    files.write(tmp_path / "record.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == {file.name, listing(file).name, "record.json"}
    assert paths.need(tmp_path / "record.json", "01_corpus") == tmp_path / "record.json"


def test_a_failure_leaves_the_earlier_file_and_its_hash(tmp_path, monkeypatch):
    file = written(tmp_path / "definition.parquet")
    with pytest.raises(RuntimeError, match="half-way"), files.replacing(file) as aside:
        aside.write_bytes(b"half")
        raise RuntimeError("half-way")
    with pytest.raises(OSError, match="no space"), monkeypatch.context() as patch:
        patch.setattr(files, "sha256", lambda _: (_ for _ in ()).throw(OSError("no space left on device")))
        written(file, PAIRS[:9])
    assert pl.read_parquet(paths.need(file, "01_corpus")).equals(PAIRS) and len(list(tmp_path.iterdir())) == 2
