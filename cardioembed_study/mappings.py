"""What does a YAML file say, if it is one mapping and neither hides a mistake nor grows without end?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

BYTES = 1_000_000  # of a file, and
VALUES = 100_000  # in it, its aliases written out


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, an empty one where nothing is in it.

    Raises:
        ValueError: the file is no YAML, no mapping or too large, a key stands twice in a mapping, or a value has a tag; names
            the file and the line.
    """
    if (size := path.stat().st_size) > BYTES:
        raise ValueError(f"{path.name} has {size:,} bytes, wanted at most {BYTES:,}; divide it, or take texts out")
    try:
        content = yaml.load(path.read_bytes(), Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        said = ": ".join(filter(None, (error.context, error.problem)))
        raise ValueError(f"{path.name}, line {error.problem_mark.line + 1}: {said}; correct it there") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} cannot be read as YAML, correct it: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict | None):
        raise ValueError(f"{path.name} is {content!r:.80}; wanted a mapping, lines of `name: value`")
    return content or {}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader; it refuses tags, a key that stands twice, and aliases that unfold to very many values."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event = self.peek_event()
        if getattr(event, "tag", None):
            self._refuse(f"the tag {event.tag!r}; wanted a plain value", event)
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            return node
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        first: dict[str, yaml.Node] = {}
        for key in (key for key, _ in pairs if isinstance(key, yaml.ScalarNode)):
            if first.setdefault(key.value, key) is not key:
                self._refuse(f"{key.value!r} stands twice; wanted each once", key)
        inside = [part for pair in pairs for part in pair] or (node.value if isinstance(node.value, list) else [])
        node.size = 1 + sum(getattr(part, "size", VALUES) for part in inside)  # none yet: a part of itself
        if node.size > VALUES:
            self._refuse(f"more than {VALUES:,} values, aliases written out; wanted fewer", event)
        return node

    def _refuse(self, problem: str, where: yaml.Event | yaml.Node) -> None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)
