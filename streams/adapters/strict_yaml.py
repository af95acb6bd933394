"""YAML that people write for us: safely read, and a key that is there twice is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml


class Loader(yaml.SafeLoader):
    """Safe, and refuses a key that is there twice: of two, people see the other one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; YAMLError if a key is there twice."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def line_of(data: bytes, place: Sequence[str | int]) -> int | None:
    """The line, from 1, on which what stands at ``place`` (keys and indexes) begins; of what is not there,
    its nearest parent's."""
    node = yaml.compose(data, Loader)
    found = None if node is None else node.start_mark.line + 1
    for step in place:
        below = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(step):
                    below, found = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            below = node.value[step]
            found = below.start_mark.line + 1
        if below is None:
            return found
        node = below
    return found
