"""Where the real data sets are; tests on them are skipped where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def real_file(name: str) -> Path:
    """The path of a real data file, from EBBTIDE_TEST_DATA or beside the project; else a skip."""
    folder = Path(os.environ.get("EBBTIDE_TEST_DATA", ROOT / ".." / "shared" / "data"))
    path = folder / name
    if not path.exists():
        pytest.skip(f"the real data file {name} is not there; EBBTIDE_TEST_DATA names its folder")
    return path
