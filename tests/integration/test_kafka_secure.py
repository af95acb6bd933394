"""Apache Kafka by SASL/SCRAM over TLS: the pipeline works, and who lacks secret or authority is told so."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion

from streams.adapters.clickhouse import connect, migrate
from streams.adapters.kafka.admin import AdminError, check_topics, create_topics
from streams.domain.policy import SECOND, Policy
from streams.embedded.process import free_port
from streams.settings import Settings
from streams.sources.replayer import replay
from streams.sources.simulation import Simulation
from streams.workers import Workers
from tests.integration.kafka_jars import why_not
from tests.integration.kafka_server import KafkaCluster
from tests.integration.pipelines import wait_until

pytestmark = pytest.mark.replay

USER: Final = "ebbtide"
PASSWORD: Final = "a-password-of-the-tests"
_DEADLINE_S: Final = 120.0


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """How to speak to a broker that listens by SASL_SSL, with a certificate that nobody else trusts."""
    if (why := why_not()) is not None:
        pytest.skip(f"Apache Kafka cannot run here: {why}")
    folder = tmp_path_factory.mktemp("secure")
    store, authority = folder / "broker.p12", folder / "ca.crt"
    kept = ("-keystore", str(store), "-storepass", PASSWORD, "-alias", "broker")
    about = ("-dname", "CN=127.0.0.1", "-ext", "SAN=IP:127.0.0.1", "-keyalg", "RSA", "-validity", "2")
    _run("keytool", "-genkeypair", *kept, "-storetype", "PKCS12", *about)
    _run("keytool", "-exportcert", "-rfc", *kept, "-file", str(authority))
    port = free_port()
    listener = f"$ours,SECURE://127.0.0.1:{port}"
    named = "listener.name.secure"
    properties = {
        "listeners": listener,
        "advertised.listeners": listener,
        "listener.security.protocol.map": "$ours,SECURE:SASL_SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        f"{named}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        f"{named}.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        f"{named}.ssl.keystore.type": "PKCS12",
        f"{named}.ssl.keystore.location": str(store),
        f"{named}.ssl.keystore.password": PASSWORD,
    }
    with KafkaCluster(1, properties) as cluster:
        with closing(KafkaAdminClient(bootstrap_servers=cluster.bootstrap)) as admin:
            secret = UserScramCredentialUpsertion(USER, "SCRAM-SHA-512", PASSWORD)
            assert admin.alter_user_scram_credentials([secret]) == {USER: None}
        yield Settings(
            kafka=f"127.0.0.1:{port}",
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username=USER,
            sasl_password=PASSWORD,
            ssl_cafile=str(authority),
            partitions=2,
            ticks="off",
            policy=Policy(gap=1_800 * SECOND),
        )


def test_the_whole_pipeline_works_by_it(secure: Settings, database: str, tmp_path: Path) -> None:
    settings = replace(secure, clickhouse=database)
    migrate(database)
    create_topics(settings)
    assert check_topics(settings) == []
    simulation = Simulation(customers=40, days=2, policy=settings.policy)
    with Workers(settings, ("customers", "sink", "shops"), tmp_path), closing(connect(database)) as client:
        sent = asyncio.run(replay(simulation, settings))

        def counted() -> bool:
            rows = client.query("SELECT sum(received) FROM ingest FINAL").result_rows
            return int(rows[0][0] or 0) == sent.total

        wait_until("all records are counted", counted, _DEADLINE_S)
        assert client.query("SELECT count() FROM events FINAL").result_rows[0][0] > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"sasl_password": "another-password"},
        {"sasl_username": "nobody"},
        {"ssl_cafile": ""},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_who_lacks_the_secret_or_the_authority_is_told_so_in_a_sentence(
    secure: Settings, wrong: dict[str, str]
) -> None:
    with pytest.raises(AdminError) as refused:
        check_topics(replace(secure, **wrong))
    said = str(refused.value)
    assert secure.kafka in said
    assert PASSWORD not in said
    assert "\n" not in said
