"""Options that several commands take, and the shape of their examples."""

from __future__ import annotations

from pathlib import Path

import click

kafka = click.option("--kafka", metavar="HOST:PORT", help="Bootstrap servers; EBBTIDE_KAFKA.")
clickhouse = click.option("--clickhouse", metavar="URL", help="ClickHouse; EBBTIDE_CLICKHOUSE.")
prefix = click.option("--topic-prefix", metavar="TEXT", help="Before every topic; EBBTIDE_TOPIC_PREFIX.")
data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Ask what a demo kept in DIR, not the server.",
)


def epilog(*examples: str) -> str:
    """The end of a command's help: lines that work as they stand."""
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
