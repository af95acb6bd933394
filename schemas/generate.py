"""Writes the contract as JSON Schema and AsyncAPI: ``python -m schemas.generate``; ``--check`` compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from schemas import asyncapi, events, facts, topics

DIRECTORY: Final = Path(__file__).parent / "json"
ASYNCAPI: Final = DIRECTORY.parent / "asyncapi.json"
_ALIASES: Final = "Canonical names; the other names that descriptions mention are accepted in their place."
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def generated() -> dict[str, str]:
    """Each schema's text by its file name: one file per topic that has a model, named after the topic."""
    models: dict[str, type[BaseModel]] = {**events.MODELS, **facts.MODELS}
    files: dict[str, str] = {}
    for topic in topics.ALL:
        if topic.model is None:
            continue
        schema = models[topic.name].model_json_schema(
            mode="validation" if topic.kind == "input" else "serialization"
        )
        comment = {"$comment": _ALIASES} if topic.kind == "input" else {}
        text = json.dumps({"$schema": _DIALECT, **comment, **schema}, indent=2, ensure_ascii=False)
        files[f"{topic.name}.json"] = text + "\n"
    return files


def differences(directory: Path = DIRECTORY) -> list[str]:
    """One sentence per schema file in ``directory`` that is not what the models say."""
    wanted = generated()
    there = {path.name: path.read_text("utf-8") for path in directory.glob("*.json")}
    return [
        *(f"{name} is missing" for name in sorted(wanted.keys() - there.keys())),
        *(f"{name} belongs to no topic" for name in sorted(there.keys() - wanted.keys())),
        *(
            f"{name} differs from its model"
            for name in sorted(wanted.keys() & there.keys())
            if wanted[name] != there[name]
        ),
    ]


def contract() -> str:
    """The AsyncAPI document's text."""
    return json.dumps(asyncapi.document(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Writes, or with ``--check`` compares; the process's exit code."""
    if arguments == ["--check"]:
        problems = differences()
        if not ASYNCAPI.exists() or ASYNCAPI.read_text("utf-8") != contract():
            problems.append("asyncapi.json differs from the topics")
        for problem in problems:
            sys.stderr.write(f"schemas/json: {problem}; run python -m schemas.generate\n")
        return 1 if problems else 0
    if arguments:
        sys.stderr.write("usage: python -m schemas.generate [--check]\n")
        return 2
    DIRECTORY.mkdir(exist_ok=True)
    wanted = generated()
    for path in DIRECTORY.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (DIRECTORY / name).write_text(text, "utf-8")
    ASYNCAPI.write_text(contract(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
