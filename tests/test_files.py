"""What is read is what was written: Parquet files with a hash beside them, and every way out when the disk is full."""

import contextlib
import resource

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import pytest
import tiny
import torch
from safetensors import SafetensorError

from cardioembed_lib import checkpoint, export, files
from cardioembed_study import embeddings, paths, records, runs, settings, show
from cardioembed_study.claims import page
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
    remedy = " run notebooks/01_corpus.ipynb with this profile (first, or `make book`|again)$"
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


# ---- a full disk


def a_table(n):
    show.write_table("p", "t", [{"model": "base", "MRR": n / 7}])


def sections(n):
    show.write_sections(
        "p", "s", {"first": [{"model": "base", "MRR": n / 7}], "second": [{"model": "tuned", "MRR": n / 3}]}
    )


def a_figure(n):
    with show.canvas() as (fig, ax):
        ax.plot([0, n], [1, 2])
    show.save("p", "f", fig, pl.DataFrame({"x": [0, n]}))
    plt.close(fig)


def claims(n):
    claim = page.ledger.load()
    judged = tuple(page.verdicts.Verdict(key, "not tested", "", f"because of {n}", "") for key in claim)
    page.write("p", claim, page.verdicts.Judged(judged, (), "", {}), [])


def a_record(n):
    records.write(records.path("p", "m", "base"), metrics={"mrr": n / 7}, counts={}, inputs=[], params={}, device="cpu")


def a_parquet_file(n):
    written(paths.pairs("p", "definition"), PAIRS[: 20 * n])


def vectors(n):
    embeddings.keep(paths.artifacts("p") / "embeddings" / "x.safetensors", np.full((4, 8), n, dtype=np.float32))


def a_checkpoint(n):
    found = tiny.encoder()
    optimiser = torch.optim.AdamW([p for p in found.model.parameters() if p.requires_grad])
    state = checkpoint.State(found.model, optimiser, {}, paths.run("p", "one"))
    state.step, state.history = n, [{"step": n, "loss": 1.0}] * n
    state.save()


def an_adapter(n):
    found = tiny.with_adapter(tiny.bert(), rank=n)
    export.save(found, tiny.spec("all-MiniLM-L6-v2"), paths.run("p", "one") / "adapter", {})


def parameters(n):
    runs.claim(settings.check("02_train", {"profile": "p", "run": "one", "seed": n}), [])


EXITS = {
    "table": a_table,
    "sections": sections,
    "figure": a_figure,
    "claims": claims,
    "record": a_record,
    "parquet": a_parquet_file,
    "vectors": vectors,
    "checkpoint": a_checkpoint,
    "adapter": an_adapter,
    "parameters of a run": parameters,
}
WHOLE = ("adapter",)  # one thing of several files: all old or all new


def contents():
    inside = (path for path in paths.artifacts("p").rglob("*") if not path.match("runs/.one.*"))
    return {str(path.relative_to(paths.artifacts("p"))): path.read_bytes() for path in inside if path.is_file()}


@contextlib.contextmanager
def full(size):
    """Let no file grow beyond a size: the write that would fails half-way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("exit", EXITS)
@pytest.mark.slow
def test_a_full_disk_leaves_what_was_there_or_what_was_written_and_nothing_half(tmp_path, monkeypatch, exit):
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path / "new"))
    EXITS[exit](2)
    new = contents()
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path / "old"))
    EXITS[exit](1)
    old = contents()
    assert old.keys() == new.keys() and old != new
    for limit in sorted({0, 1} | {len(new[name]) - 1 for name in new if new[name] != old[name]}):
        with pytest.raises((OSError, SafetensorError, pl.exceptions.ComputeError)), full(limit):
            EXITS[exit](2)
        left = contents()
        assert left.keys() == old.keys()
        assert all(left[name] in (old[name], new[name]) for name in left)
        assert exit not in WHOLE or left == old
    EXITS[exit](2)
    assert contents() == new
