"""Jars as published, Apache Kafka's above all: resolved by Maven once and kept in a cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
POM: Final = Path(__file__).with_name("kafka-pom.xml")
RESOLVE_DEADLINE_S: Final = 600.0


class NoKafkaJars(RuntimeError):
    """Maven could not resolve jars; the text is one sentence that says why."""


def why_not() -> str | None:
    """Why Apache Kafka cannot be run on this machine, or None if Java 17 and Maven are here."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    try:
        said = subprocess.run(
            ["java", "-version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stderr
    except (OSError, subprocess.SubprocessError):
        return "java does not run"
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < 17:
        return f"Java 17 or newer is needed, here is {version[1] if version else 'an unknown version'}"
    return None


def cache_dir() -> Path:
    """Where resolved jars are kept: ``EBBTIDE_CACHE_DIR``, else ``.cache`` of the project."""
    return Path(os.environ.get("EBBTIDE_CACHE_DIR") or ROOT / ".cache")


def kafka_version() -> str:
    """The version of Apache Kafka that ``kafka-pom.xml`` names."""
    found = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([^<]+)<", POM.read_text())
    if found is None:
        raise NoKafkaJars(f"{POM.name} names no version of kafka_2.13")
    return found[1]


def resolve_jars(pom: Path = POM) -> Path:
    """The folder with the jars that ``pom`` names; Maven resolves them the first time: that takes a minute.

    Processes that ask at the same time resolve once. Raises NoKafkaJars if Maven cannot.
    """
    digest = hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    home = cache_dir() / pom.stem.removesuffix("-pom")
    jars = home / (f"{kafka_version()}-{digest}" if pom == POM else digest)
    if jars.is_dir():
        return jars
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars.is_dir():
            return jars
        _say(f"resolving the jars of {pom.name} with Maven, once, into {home}")
        began = time.monotonic()
        # Complete or absent: the folder gets its name only when every jar is in it.
        with tempfile.TemporaryDirectory(dir=home) as unfinished:
            _maven(pom, Path(unfinished) / "jars")
            (Path(unfinished) / "jars").rename(jars)
        print(
            f"Resolved {len(list(jars.glob('*.jar')))} jars in {time.monotonic() - began:.0f} s",
            file=sys.stderr,
        )
    return jars


def _maven(pom: Path, into: Path) -> None:
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={into}"]
    command = ["mvn", "--batch-mode", "--quiet", "--no-transfer-progress", "--file", str(pom), *goal]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=RESOLVE_DEADLINE_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise NoKafkaJars(f"Maven did not resolve {pom.name}: {exc}") from exc
    if done.returncode != 0:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        reason = errors[0] if errors else "it gave no reason"
        raise NoKafkaJars(f"Maven did not resolve {pom.name}: {reason}")


def _say(text: str) -> None:
    print(f"kafka: {text}", file=sys.stderr, flush=True)
