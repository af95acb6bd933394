"""The life of the embedded stack: it starts, answers, survives what happens to it, leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import clickhouse_connect
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from streams.embedded.broker import Broker
from streams.embedded.clickhouse import ClickHouse
from streams.embedded.process import HOST, ServerProcess, StackError
from streams.embedded.stack import EmbeddedStack

ROOT = Path(__file__).parents[2]


def eventually(condition: Callable[[], bool], what: str, deadline_s: float = 20) -> None:
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A killed process nobody has waited for yet is no longer running.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


async def send_and_read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for number in range(count):
            await producer.send(topic, str(number).encode(), partition=0)
        await producer.flush()
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        read: list[bytes] = []
        deadline = time.monotonic() + 30
        while len(read) < count and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                read += [record.value for record in records]
        return read
    finally:
        await consumer.stop()


def topics(bootstrap: str) -> set[str]:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        return set(admin.list_topics())
    finally:
        admin.close()


def create_topic(bootstrap: str, name: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        admin.close()


def test_the_stack_serves_both_and_leaves_nothing_behind() -> None:
    with EmbeddedStack() as stack:
        directory, ports = stack.directory, [stack.broker.process.port, stack.database.process.port]
        pids = [stack.broker.process.pid, stack.database.process.pid]
        assert stack.kafka == f"127.0.0.1:{ports[0]}"
        assert stack.clickhouse == f"http://default@127.0.0.1:{ports[1]}/ebbtide"
        create_topic(stack.kafka, "t")
        assert asyncio.run(send_and_read(stack.kafka, "t", 100)) == [str(n).encode() for n in range(100)]
        client = clickhouse_connect.get_client(dsn=stack.clickhouse)
        assert client.command("SELECT currentDatabase()") == "ebbtide"
        client.close()
        assert {path.name for path in directory.iterdir()} == {"broker.log", "clickhouse", "clickhouse.log"}
    assert not directory.exists()
    assert not any(is_alive(pid) for pid in pids if pid is not None)
    assert not any(accepts(port) for port in ports)


def test_a_given_directory_keeps_the_tables_and_no_topics(tmp_path: Path) -> None:
    with EmbeddedStack(tmp_path / "kept") as stack:
        create_topic(stack.kafka, "t")
        client = clickhouse_connect.get_client(dsn=stack.clickhouse)
        client.command("CREATE TABLE kept (a UInt8) ENGINE = MergeTree ORDER BY a")
        client.command("INSERT INTO kept VALUES (7)")
        client.close()
    with EmbeddedStack(tmp_path / "kept") as stack:
        client = clickhouse_connect.get_client(dsn=stack.clickhouse)
        assert client.command("SELECT a FROM kept") == 7
        client.close()
        assert topics(stack.kafka) == set()
    assert (tmp_path / "kept" / "clickhouse").is_dir()


def test_two_stacks_run_side_by_side() -> None:
    with EmbeddedStack() as one, EmbeddedStack() as other:
        assert len({one.kafka, other.kafka, one.clickhouse, other.clickhouse}) == 4
        create_topic(one.kafka, "t")
        assert topics(other.kafka) == set()


def test_the_servers_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, threading\n"
        "from pathlib import Path\n"
        "from streams.embedded.stack import EmbeddedStack\n"
        "stack = EmbeddedStack(Path(sys.argv[1]))\n"
        # Started by a thread that ends: only the death of the whole process may end the servers.
        "thread = threading.Thread(target=stack.start)\n"
        "thread.start(); thread.join()\n"
        "print(stack.broker.process.pid, stack.database.process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    with parent.stdin, parent.stdout:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    eventually(lambda: not any(is_alive(pid) for pid in pids), "both servers end")


@pytest.mark.parametrize("part", ["broker", "clickhouse"])
def test_a_port_lost_to_somebody_else_is_replaced(tmp_path: Path, part: str) -> None:
    server = Broker(tmp_path) if part == "broker" else ClickHouse(tmp_path / "data", tmp_path)
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        lost = taken.getsockname()[1]
        server.process.spawn(lost)
        try:
            server.process.wait_ready()
            assert server.process.port != lost
        finally:
            server.stop()


def test_a_broker_on_the_port_of_another_is_not_taken_for_our_own(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with Broker(tmp_path) as first:
        second = Broker(tmp_path / "second")
        second.process.spawn(first.process.port)
        try:
            second.process.wait_ready()
            assert second.address != first.address
        finally:
            second.stop()


def test_a_broker_restarts_empty_on_its_address(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        address = broker.address
        create_topic(address, "t")
        broker.restart()
        assert broker.address == address
        assert topics(address) == set()


def test_clickhouse_comes_back_with_its_rows_after_a_kill(tmp_path: Path) -> None:
    with ClickHouse(tmp_path / "data", tmp_path) as clickhouse:
        url = clickhouse.url
        client = clickhouse_connect.get_client(dsn=url)
        client.command("CREATE TABLE kept (a UInt8) ENGINE = MergeTree ORDER BY a")
        client.command("INSERT INTO kept VALUES (7)")
        clickhouse.kill()
        assert not accepts(clickhouse.process.port)
        clickhouse.restart()
        assert clickhouse.url == url
        assert client.command("SELECT a FROM kept") == 7
        client.close()


def test_clickhouse_lets_a_running_query_end_before_it_stops(tmp_path: Path) -> None:
    with ClickHouse(tmp_path / "data", tmp_path) as clickhouse:
        client = clickhouse_connect.get_client(dsn=clickhouse.url)
        probe = clickhouse_connect.get_client(dsn=clickhouse.url)

        async def query_and_stop() -> object:
            query = asyncio.create_task(asyncio.to_thread(client.command, "SELECT 7 + sleep(1.5)"))
            running = "SELECT countIf(query LIKE 'SELECT 7%') FROM system.processes"
            await asyncio.to_thread(eventually, lambda: probe.command(running) == 1, "the query runs")
            await asyncio.to_thread(clickhouse.stop)
            return await query

        assert asyncio.run(query_and_stop()) == 7
        client.close()
        probe.close()


def test_a_directory_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="cannot be used") as caught:
        EmbeddedStack(tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_a_part_that_does_not_start_leaves_no_other_running(tmp_path: Path) -> None:
    (tmp_path / "clickhouse").write_text("not a directory")
    stack = EmbeddedStack(tmp_path)
    with pytest.raises(StackError, match="ClickHouse endpoint ended with code 1") as caught:
        stack.start()
    assert "\n" not in str(caught.value)
    assert stack.broker.process.pid is None
    assert not accepts(stack.broker.process.port)


def test_a_server_that_never_answers_is_ended_at_the_deadline(tmp_path: Path) -> None:
    server = ServerProcess(
        "the sleeper",
        lambda _port: ["sleep", "60"],
        lambda _port, _pid: False,
        tmp_path / "log",
        deadline_s=0.3,
    )
    server.spawn()
    with pytest.raises(StackError, match=r"did not answer on 127\.0\.0\.1:\d+ within"):
        server.wait_ready()
    assert not server.running


def test_a_program_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    server = ServerProcess(
        "the missing", lambda _port: ["./no-such-program"], lambda _port, _pid: True, tmp_path / "log"
    )
    with pytest.raises(StackError, match="the missing cannot be started"):
        server.spawn()
