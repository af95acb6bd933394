"""ClickHouse: where it is, whether it can be reached, its schema, and inserts of ready Arrow tables.

Every failure becomes one sentence: ``StoreUnavailable`` when trying again can help, ``StoreError`` when not.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from clickhouse_migrations.clickhouse_cluster import ClickhouseCluster
from clickhouse_migrations.exceptions import MigrationException
from clickhouse_migrations.migration import MigrationStorage
from clickhouse_migrations.migrator import STATUS_APPLIED, STATUS_MD5_MISMATCH, STATUS_PENDING, STATUS_UNKNOWN
from urllib3.exceptions import HTTPError

from streams.adapters.cluster import write_clustered
from streams.adapters.described import describe

#: Errors of the server that pass by themselves.
_PASSING: Final = frozenset(
    {95, 96, 198, 209, 210, 279, 410}  # its sockets, its name lookups
    | {159, 201, 202, 203, 236, 290, 364, 373, 394, 439, 473, 735, 745, 749, 762, 776}  # too busy, timed out
    | {241, 243, 252, 777, 778}  # no memory or disk for now, too many parts
    | {
        225,
        242,
        244,
        254,
        285,
        286,
        289,
        319,
        369,
        416,
        571,
        574,
        722,
        733,
        999,
    }  # replicas, keeper, start-up
    | {425, 499}  # the operating system, object storage
)
_UNKNOWN_TABLE: Final = 60
_UNKNOWN_DATABASE: Final = 81
_REFUSED_LOGIN: Final = frozenset({192, 193, 194, 497, 516})

#: We batch ourselves; and one batch of replayed or hostile data may span any number of months.
_SETTINGS: Final = {"async_insert": 0, "max_partitions_per_insert_block": 0}
#: Rows are on their shard when the insert says so; and a question's parts are asked once, not once a shard.
_ON_CLUSTER: Final = {"distributed_foreground_insert": 1, "distributed_product_mode": "global"}

_OPTIONS: Final = frozenset({"verify", "ca_cert", "cluster"})
_STATUS = re.compile(r"response code (\d{3})")
_AROUND = re.compile(r"^Received ClickHouse exception, code: \d+, server response: | \(for url [^)]*\)$")

# What these log of a failure, our errors say.
for _name in ("clickhouse_connect", "urllib3.connectionpool"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class StoreError(Exception):
    """ClickHouse refused, and would again; the text is one sentence for the operator."""


class StoreUnavailable(StoreError):
    """ClickHouse cannot be reached or is overloaded for now; trying again may help."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed ClickHouse URL."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    secure: bool
    verify: bool = True
    ca_cert: str | None = None
    #: The schema is on all machines of this cluster; empty: on this one alone.
    cluster: str = ""

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """The parts of ``http[s]://user:password@host:port/database[?verify=0&ca_cert=PATH&cluster=NAME]``.

        Raises StoreError for anything else. User defaults to ``default``, the port to 8123 (8443 for https).
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise StoreError(
                f"{_masked(url)!r} is not a ClickHouse URL like http://user:password@host:8123/database"
            )
        try:
            port = parts.port
        except ValueError:
            raise StoreError(f"{_masked(url)!r} has a port that is not a number up to 65535") from None
        database = unquote(parts.path.strip("/"))
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", database):
            raise StoreError(f"{_masked(url)!r} must name a database after the host, like …:8123/ebbtide")
        options = dict(parse_qsl(parts.query))
        if unknown := sorted(options.keys() - _OPTIONS):
            raise StoreError(f"{_masked(url)!r} has options we do not know: {', '.join(unknown)}")
        cluster = options.get("cluster", "")
        if cluster and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", cluster):
            raise StoreError(f"{_masked(url)!r} names a cluster that cannot be one")
        secure = parts.scheme == "https"
        return cls(
            host=parts.hostname,
            port=port or (8443 if secure else 8123),
            user=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            database=database,
            secure=secure,
            verify=options.get("verify", "1").lower() not in {"0", "false", "no"},
            ca_cert=options.get("ca_cert"),
            cluster=cluster,
        )

    @property
    def on_cluster(self) -> str:
        """What a statement says that all machines are to follow; empty on one machine."""
        return f" ON CLUSTER `{self.cluster}`" if self.cluster else ""

    def __str__(self) -> str:
        return f"ClickHouse at {self.host}:{self.port}"


def _masked(url: str) -> str:
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1:***@", url)


@contextmanager
def explained(endpoint: Endpoint, doing: str) -> Iterator[None]:
    """Turn any failure of the driver while ``doing`` something into a StoreError or StoreUnavailable."""
    try:
        yield
    except ClickHouseError as exc:
        raise _explain(endpoint, doing, exc) from exc
    except (OSError, HTTPError) as exc:
        raise StoreUnavailable(f"{endpoint} cannot be reached: {_one_line(exc)}") from exc


def _explain(endpoint: Endpoint, doing: str, exc: ClickHouseError) -> StoreError:
    code = getattr(exc, "code", None)
    text = _one_line(exc)
    status = int(match[1]) if (match := _STATUS.search(text)) else None
    if code is None and (status is None or status >= 500 or status in {408, 429}):
        if isinstance(exc, OperationalError) or status is not None:
            return StoreUnavailable(f"{endpoint} cannot be reached: {text}")
        return StoreError(f"{endpoint} failed while {doing}: {text}")
    if code in _PASSING:
        return StoreUnavailable(f"{endpoint} is not ready while {doing}: {text}")
    if code in _REFUSED_LOGIN or status in {401, 403}:
        return StoreError(
            f"{endpoint} refused user {endpoint.user!r}; check user and password in the URL: {text}"
        )
    if code in {_UNKNOWN_TABLE, _UNKNOWN_DATABASE}:
        return StoreError(
            f"{endpoint} lacks our schema in database {endpoint.database!r}; run `ebbtide migrate` ({text})"
        )
    return StoreError(f"{endpoint} refused while {doing}: {text}")


def _one_line(exc: BaseException) -> str:
    """What the server said, or what the operating system said, without what the driver says around it."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(exc).split("Stack trace", maxsplit=1)[0].split())
    text = _AROUND.sub("", text) or type(exc).__name__
    return text if len(text) <= 400 else f"{text[:400]}…"


def connect(url: str, *, database: str | None = None, timeout_s: float = 60.0) -> Client:
    """A client of the URL's database (or of ``database``), not bound to a server session.

    Raises StoreUnavailable or StoreError; one client serves one thread at a time.
    """
    endpoint = Endpoint.parse(url)
    with explained(endpoint, "connecting"):
        return _client(endpoint, endpoint.database if database is None else database, timeout_s)


def _client(endpoint: Endpoint, database: str, timeout_s: float) -> Client:
    return clickhouse_connect.get_client(
        host=endpoint.host,
        port=endpoint.port,
        username=endpoint.user,
        password=endpoint.password,
        database=database,
        interface="https" if endpoint.secure else "http",
        verify=endpoint.verify,
        ca_cert=endpoint.ca_cert,
        connect_timeout=10,
        send_receive_timeout=timeout_s,
        autogenerate_session_id=False,
        settings=_SETTINGS | (_ON_CLUSTER if endpoint.cluster else {}),
        compress=endpoint.host not in {"127.0.0.1", "localhost", "::1"},
    )


class Store:
    """Inserts Arrow tables; connects when it is first asked and again after a failure.

    Blocking: call it from a thread. Not for two threads at once.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        self.endpoint = Endpoint.parse(url)
        self._timeout_s = timeout_s
        self._connected: Client | None = None

    def insert(self, table: str, rows: pa.Table) -> None:
        """Insert all of ``rows``, or raise StoreUnavailable or StoreError.

        After a StoreUnavailable the rows may be there or not; inserting them again is harmless, because
        every table replaces by identity.
        """
        with explained(self.endpoint, f"inserting into {table}"), self._client() as client:
            client.insert_arrow(table, rows)

    def ping(self) -> None:
        """StoreUnavailable or StoreError if ClickHouse does not answer us."""
        with explained(self.endpoint, "asking whether it is there"), self._client() as client:
            client.command("SELECT 1")

    @contextmanager
    def _client(self) -> Iterator[Client]:
        try:
            if self._connected is None:
                self._connected = _client(self.endpoint, self.endpoint.database, self._timeout_s)
            yield self._connected
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        client, self._connected = self._connected, None
        if client is not None:
            client.close()


def sql_dir() -> Path:
    """Where the SQL files are: inside the installed package, or in the source checkout."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "_sql", package.parent / "sql"):
        if candidate.is_dir():
            return candidate
    raise StoreError("the SQL files are missing from this installation; install ebbtide again")


def migrate(url: str) -> list[str]:
    """Create the database if it is missing, apply the migrations that it lacks, and give their file names.

    Raises StoreUnavailable or StoreError. Running it again is harmless, after a crash in the middle too.
    """
    endpoint = Endpoint.parse(url)
    logging.getLogger("clickhouse_migrations").setLevel(logging.WARNING)
    with _migrations(endpoint) as folder, explained(endpoint, "migrating"):
        names = MigrationStorage(folder).migration_filenames()
        client = _client(endpoint, "default", timeout_s=300.0)
        try:
            # Refreshable views need an Atomic database, and chDB's default is another.
            known = client.command(
                "SELECT count() FROM system.databases WHERE name = {n:String}", {"n": endpoint.database}
            )
            if not known:
                where = endpoint.on_cluster
                client.command(f"CREATE DATABASE IF NOT EXISTS `{endpoint.database}`{where} ENGINE = Atomic")
        finally:
            client.close()
        try:
            applied: list[Any] = _cluster(endpoint).migrate(
                endpoint.database,
                folder,
                cluster_name=endpoint.cluster or None,
                create_db_if_no_exists=False,
            )
        except MigrationException as exc:
            raise StoreError(
                f"{endpoint} has a schema that does not follow from ours: {_one_line(exc)}"
            ) from exc
        if applied:
            with closing(_client(endpoint, endpoint.database, timeout_s=300.0)) as client:
                describe(client, sql_dir() / "comments.yaml", endpoint.on_cluster)
    return [names[migration.version] for migration in applied]


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """How a database's schema stands to this release's migrations, by their file names.

    changed: applied with another content; unknown: applied, and not of this release (their numbers).
    """

    applied: tuple[str, ...]
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    unknown: tuple[str, ...]


def migration_status(url: str) -> MigrationStatus:
    """What ``migrate`` would find; changes nothing. Raises StoreUnavailable or StoreError."""
    endpoint = Endpoint.parse(url)
    by_state: dict[str, list[str]] = {}
    with _migrations(endpoint) as folder, explained(endpoint, "looking at its migrations"):
        names = MigrationStorage(folder).migration_filenames()
        for row in _cluster(endpoint).status(endpoint.database, folder):
            by_state.setdefault(row.state, []).append(names.get(row.version, str(row.version)))
    states = (STATUS_APPLIED, STATUS_PENDING, STATUS_MD5_MISMATCH, STATUS_UNKNOWN)
    return MigrationStatus(*(tuple(by_state.get(state, ())) for state in states))


@contextmanager
def _migrations(endpoint: Endpoint) -> Iterator[Path]:
    """The folder of migrations: ours, or what they are on the endpoint's cluster."""
    folder = sql_dir() / "migrations"
    if not endpoint.cluster:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="ebbtide-") as made:
        write_clustered(folder, endpoint.cluster, Path(made))
        yield Path(made)


def _cluster(endpoint: Endpoint) -> ClickhouseCluster:
    return ClickhouseCluster(
        db_host=endpoint.host,
        db_port=str(endpoint.port),
        db_user=endpoint.user,
        db_password=endpoint.password,
        db_name=endpoint.database,
        secure=endpoint.secure,
        driver="clickhouse-connect",
        verify=None if endpoint.verify else False,
        ca_cert=endpoint.ca_cert,
    )
