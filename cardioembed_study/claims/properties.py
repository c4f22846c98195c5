"""Which sentences do published numbers assert, and which rule decides each? ``data_manifests/claims/properties.yaml``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cardioembed_lib import files
from cardioembed_study import mappings, paths
from cardioembed_study.claims.evidence import TESTS, Measured

FILE = paths.MANIFESTS / "claims" / "properties.yaml"
HOLDS, REFUTED, OPEN, NOT_RUN = "holds", "does not hold", "tested, inconclusive", "not run"
OUTCOMES = (HOLDS, REFUTED, OPEN, NOT_RUN)
DEFINITION = "by definition"
DECIDING = (
    "id",
    "sentence",
    "measure",
    "split",
    "recipe",
    "rule",
    "seeds",
    "dated",
)  # what a property's digest is made of
Text = Annotated[str, Field(min_length=1)]
Condition = Annotated[str, Field(pattern=r"^(low > -?\d+(\.\d+)?|high < -?\d+(\.\d+)?|by definition|nothing)$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Strict):
    """When a property holds and when it is refuted, by an interval's ends; what is neither is inconclusive."""

    holds: Condition
    refuted: Condition

    def decide(self, low: float, high: float) -> str:
        """Return the outcome for an interval."""
        for outcome, condition in ((HOLDS, self.holds), (REFUTED, self.refuted)):
            end, _, bound = condition.split()
            if low > float(bound) if end == "low" else high < float(bound):
                return outcome
        return OPEN

    def __str__(self) -> str:
        if self.holds == DEFINITION:
            return "Follows from the definition; no measurement could refute it."
        said = ("the {1} end of the interval lies {0} {2}".format(*self._words(c)) for c in (self.holds, self.refuted))
        return "Holds if {}; does not hold if {}; else inconclusive.".format(*said)

    @staticmethod
    def _words(condition: str) -> tuple[str, str, str]:
        end, _, bound = condition.split()
        bound = f"{float(bound):+g}".replace("+0", "0", bound == "0")
        return ("above", "lower", bound) if end == "low" else ("below", "upper", bound)


class Property(_Strict):
    """One falsifiable sentence, what is measured for it, and the rule. ``bears_on``: claims, or globs over their ids."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    sentence: Annotated[str, Field(pattern=r"^[A-Z].{20,}\.$")]
    measure: Text
    split: Text
    recipe: Text
    unit: Text
    rule: Rule
    seeds: Annotated[int, Field(ge=3)]
    status: Literal["confirmatory", "post hoc"]
    dated: date
    test: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]
    bears_on: Annotated[tuple[Text, ...], Field(min_length=1)]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of what the property says and of how it is decided; another property's edit leaves it as it is."""
        said = self.model_dump(mode="json", include={*DECIDING})
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def outcome(self, measured: Measured | None) -> str:
        """Return what follows from a measurement by the rule."""
        if measured is None:
            return NOT_RUN
        if self.rule.holds == DEFINITION:
            return HOLDS
        if measured.low is None or measured.seeds < self.seeds:
            return OPEN
        return self.rule.decide(measured.low, measured.high)


def load(claims: Collection[str], file: Path = FILE) -> dict[str, Property]:
    """Return every property by its id, the globs of its ``bears_on`` replaced by the claims that they match.

    Args:
        claims: ids of the ledger.
        file: of properties.

    Raises:
        ValueError: naming file, id and field: a field that is missing, unknown or of another form, an id that stands twice,
            a test that ``evidence`` lacks, a glob that matches no claim.
    """
    given = mappings.read(file).get("properties")
    if not isinstance(given, list) or not given:
        raise ValueError(f"{file.name}: properties is {given!r:.80}; wanted a list of properties")
    found: dict[str, Property] = {}
    for n, fields in enumerate(given):
        one = _checked(file.name, n, fields)
        if one.id in found:
            raise ValueError(f"{file.name}: {one.id}: id stands twice; wanted each once")
        if one.test not in TESTS:
            raise ValueError(f"{file.name}: {one.id}: test is {one.test!r}; {files.near_miss(one.test, TESTS)}")
        found[one.id] = one.model_copy(update={"bears_on": _matched(f"{file.name}: {one.id}", one.bears_on, claims)})
    return found


def digest(file: Path = FILE) -> str:
    """Return the SHA-256 of the file of rules, so that every outcome can name the rules that it followed."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _checked(file: str, n: int, fields: object) -> Property:
    try:
        return Property.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        name = fields.get("id", f"property {n + 1}") if isinstance(fields, dict) else f"property {n + 1}"
        where, given = ".".join(map(str, problem["loc"])), str(problem["input"])[:80]
        raise ValueError(f"{file}: {name}: {where}: {problem['msg']}; found {given!r}") from None


def _matched(where: str, globs: tuple[str, ...], claims: Collection[str]) -> tuple[str, ...]:
    for glob in globs:
        if not any(fnmatchcase(claim, glob) for claim in claims):
            raise ValueError(f"{where}: bears_on: {glob!r} matches no claim; {files.near_miss(glob, claims)}")
    return tuple(claim for claim in claims if any(fnmatchcase(claim, glob) for glob in globs))
