"""Kafka and ClickHouse from PyPI packages alone, for trying out, development and tests."""
