"""Does a file or a message give away what a profile's restricted texts hold, and where?"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from cardioembed_study import paths
from cardioembed_study.privacy import artefacts, fingerprints, identifiers
from cardioembed_study.privacy.artefacts import Passage
from cardioembed_study.privacy.fingerprints import Hashes, Key

NAMELESS = "(name withheld)"
FOUND = {
    "text": "restricted text",
    "id": "ids of patients or notes",
    "array": "an array, which may be made of restricted text",
}
MANY = 200  # hits named in one reading; more change nothing


@dataclass(frozen=True)
class Leak:
    """Where something restricted was found; ``kind`` is text, id or array. It never says what."""

    file: str
    place: str
    kind: str


@dataclass(frozen=True)
class Gate:
    """What is known of a profile's restricted texts; an empty gate lets everything pass."""

    runs: Hashes
    lines: Hashes
    ids: identifiers.Known
    key: Key

    @cached_property
    def empty(self) -> bool:
        """Whether nothing restricted was ever read."""
        return not (len(self.runs.values) or len(self.lines.values) or len(self.ids.ids))

    def inspect(self, path: Path) -> list[Leak]:
        """Return what a file, or its name, gives away; each place once.

        Raises:
            FileNotFoundError: no such file.
        """
        if self.empty:
            return []
        return [Leak(self._nameable(path), *found) for found in self._of_file(path)]

    def refuse(self, files: Iterable[Path], outcome: str = "nothing was written") -> None:
        """Refuse files of which one gives something away.

        Raises:
            ValueError: naming files and places, never what stands there.
        """
        if leaks := [leak for file in files for leak in self.inspect(file)]:
            shown = "; ".join(f"{leak.file}, {leak.place}" for leak in leaks[:5])
            more = f" and {len(leaks) - 5} more places" if len(leaks) > 5 else ""
            kinds = " and ".join(dict.fromkeys(FOUND[leak.kind] for leak in leaks))
            raise ValueError(f"{shown}{more}: {kinds}; {outcome}; show counts and scores instead, and run it again")

    def censor(self, message: str, place: str = "") -> str:
        """Return a message, or that it is withheld where it gives something away."""
        if self.empty or not self._of_texts(list(artefacts.readable(message, "message"))):
            return message
        return f"message withheld: it holds restricted text{f' ({place})' if place else ''}"

    def _nameable(self, path: Path) -> str:
        name = path.relative_to(paths.ROOT) if path.is_relative_to(paths.ROOT) else path
        return "/".join(NAMELESS if self._leaks(part) else part for part in name.parts).replace("//", "/", 1)

    def _leaks(self, text: str) -> bool:
        return bool(self._of_texts([*artefacts.readable(text, ""), Passage("", text.replace("_", " "))]))

    def _of_file(self, path: Path) -> Iterator[tuple[str, str]]:
        if self._leaks("/".join(path.parts)):
            yield "its name", "text"
        data = path.read_bytes()
        found = list(artefacts.passages(data, path.name))
        yield from dict.fromkeys(
            (passage.place or "the file", "array") for passage in found if passage.group == artefacts.ARRAY
        )
        for place, kind in self._of_texts(found, path.suffix in (".csv", ".tsv")):
            yield (NAMELESS if place and self._of_texts([Passage("", place)]) else place), kind

    def _of_texts(self, found: list[Passage], is_csv: bool = False) -> list[tuple[str, str]]:
        """Return places and kinds of leaks in passages, read one by one and one after another."""
        leaks: dict[tuple[str, str], None] = {}
        groups = dict.fromkeys(passage.group for passage in found)
        readings = [
            [passage for passage in found if passage.group == group] for group in groups if group != artefacts.ARRAY
        ]
        if len(groups.keys() & set(artefacts.CELLS)) > 1:
            readings.append([passage for passage in found if passage.group in artefacts.CELLS])
        for reading in readings:
            texts = [passage.text for passage in reading]
            for view in (None, *artefacts.VIEWS):
                seen, texts = texts, [view(text) for text in texts] if view else texts
                if view is None or seen != texts:
                    leaks |= dict.fromkeys(self._in_reading(reading, texts, view is not artefacts.unnumbered))
        for passage in found:
            by_line = {kind for place, kind in leaks if place.startswith("line ")} if not passage.place else set()
            kinds = self._in_columns(passage, is_csv) - by_line
            leaks |= dict.fromkeys((passage.place or "a table", kind) for kind in kinds)
        return list(leaks)

    def _in_reading(self, reading: list[Passage], texts: list[str], with_numbers: bool) -> Iterator[tuple[str, str]]:
        folded = [fingerprints.folded(text) for text in texts]
        joined = b"\0".join(folded)
        runs, _, lines, _ = fingerprints.found(joined, self.runs, self.lines, self.key)
        yield from _named(reading, folded, joined, [*runs.tolist(), *lines.tolist()], b"\n", "text")
        if len(self.ids.ids) and with_numbers:
            whole = "\0".join(texts)
            yield from _named(reading, texts, whole, identifiers.in_text(whole, self.ids), "\n", "id")

    def _in_columns(self, passage: Passage, is_csv: bool) -> set[str]:
        """Return the kinds of leaks in the columns of a passage's tables, each column read downwards."""
        value = artefacts.parsed(passage.text)
        tables = identifiers.of_csv(passage.text) if is_csv else identifiers.columns(artefacts.unescaped(passage.text))
        down = list(tables)
        columns = [*down, *(identifiers.of_json(value) if value is not None else ())]
        kinds = {"id"} if any(identifiers.is_of_ids(column, self.ids) for column in columns) else set()
        words = "\n\0".join("\n".join([column.head, *column.cells]) for column in down)
        runs, _, _, _ = fingerprints.found(fingerprints.folded(words), self.runs, self.lines, self.key)
        return kinds | ({"text"} if len(runs) else set())


def _named(
    reading: list[Passage], texts: list, joined: str | bytes, hits: Sequence[int], newline: str | bytes, kind: str
) -> Iterator[tuple[str, str]]:
    """Yield the place of each hit in joined texts: its passage, or its line where the passage is the file itself."""
    begins = [0, *accumulate(len(text) + 1 for text in texts)]
    for hit in hits[:MANY]:
        n = min(bisect_right(begins, hit), len(reading)) - 1
        yield reading[n].place or f"line {joined.count(newline, begins[n], hit) + 1}", kind
