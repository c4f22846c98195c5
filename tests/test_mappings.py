"""YAML files, all read in one place: what is no mapping, hides a mistake or grows without end is refused in a sentence."""

import pytest
import yaml

from cardioembed_study import mappings, paths, settings
from cardioembed_study.claims import ledger
from cardioembed_study.corpus import manifests

ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MERGES = ALIASES.replace("[x, x, x, x, x, x, x, x, x, x]", "{seed: 1}").replace("[*", "{<<: [*").replace("]\n", "]}\n")
NO_MAPPING = "wanted a mapping, lines of `name: value`"
REFUSED = [
    ("[01_corpus, 02_train]", NO_MAPPING),
    ("a few words", "is 'a few words'; " + NO_MAPPING),
    ("17", "is 17; " + NO_MAPPING),
    ("a: [1, 2", "line 1: while parsing a flow sequence"),
    ("a: 1\n---\nb: 2\n", "line 2: expected a single document"),
    ("a: 1\nb: 2\na: 3\n", "line 3: 'a' stands twice"),
    ("a: {b: 1, c: 2, b: 1}", "line 1: 'b' stands twice"),
    ("a: !!python/object/apply:os.getcwd []", "line 1: the tag .*python/object.*; wanted a plain value"),
    ("a: !foo 1", "line 1: the tag '!foo'"),
    ("a: *b", "line 1: found undefined alias 'b'"),
    ("a: &a [*a]", "line 1: more than 100,000 values"),
    (ALIASES, "more than 100,000 values, aliases written out"),
    (MERGES, "more than 100,000 values, aliases written out"),
    ("a: " + "[" * 2000, "cannot be read as YAML.*recursion"),
    ("a: " + "9" * 5000, "cannot be read as YAML.*4300 digits"),
    ("a: 2020-13-45", "cannot be read as YAML.*month"),
    ("a: caf\xe9".encode("latin-1"), "cannot be read as YAML"),
    ("# " + "a" * 1_000_000, "has 1,000,002 bytes, wanted at most 1,000,000"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_is_no_plain_mapping_is_refused_with_its_file(tmp_path, text, said):
    file = tmp_path / "mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=rf"^mine\.yaml[, ].*{said}") as caught:
        mappings.read(file)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "words", "a: 1\na: 2", "a: !foo 1", ALIASES])
def test_profiles_manifests_and_claims_are_read_so(tmp_path, monkeypatch, text):
    (tmp_path / "sources").mkdir()
    for file in (tmp_path / "mine.yaml", tmp_path / "sources" / "mine.yaml"):
        file.write_text(text)
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    monkeypatch.setattr(paths, "MANIFESTS", tmp_path)
    for call in (lambda: settings.profile("mine"), lambda: manifests.load("mine"), lambda: ledger.load(tmp_path)):
        with pytest.raises(ValueError, match=r"^mine\.yaml(,| is)"):
            call()


@pytest.mark.slow
def test_every_yaml_of_the_repository_is_read_as_ever():
    shipped = [*paths.PROFILES.glob("*.yaml"), *paths.MANIFESTS.rglob("*.yaml")]
    assert len(shipped) > 25
    assert all(mappings.read(path) == yaml.safe_load(path.read_text(encoding="utf-8")) for path in shipped)


def test_an_alias_and_a_merge_may_be_used_and_an_empty_file_is_an_empty_mapping(tmp_path):
    (file := tmp_path / "mine.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n")
    assert mappings.read(file) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}
    file.write_text("# nothing\n")
    assert mappings.read(file) == {}
