"""A real Alertmanager takes what it is sent. EBBTIDE_TEST_ALERTMANAGER names its binary."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

import pytest

from streams.adapters.hook_post import Post, now_ms
from streams.adapters.webhook import Target
from streams.adapters.webhook_guard import Guard, networks
from tests.agents.hooks_play import World, alert, records

LOCAL: Final = Guard(networks("127.0.0.0/8"), insecure=True)
ALERTMANAGER: Final = os.environ.get("EBBTIDE_TEST_ALERTMANAGER", "")


@pytest.mark.skipif(not ALERTMANAGER, reason="EBBTIDE_TEST_ALERTMANAGER names no Alertmanager's binary")
def test_an_alertmanager_takes_an_alert_shows_it_and_lets_it_go(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    listen = [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    process = subprocess.Popen(
        [ALERTMANAGER, f"--config.file={config}", f"--storage.path={tmp_path}", *listen],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def shown() -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/alerts", timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found

    async def run() -> World:
        world = World(now_ms())
        post = Post("alertmanager", Target(f"http://127.0.0.1:{port}"), LOCAL, world.clock)
        world.receivers["a"] = post
        world.routes.names = ("a",)
        world.begin()
        times = {"began_at": world.now - 120_000, "at": world.now}
        await world.take(("alerts", records([alert(1, **times)])))
        await world.rest()
        (one,) = await asyncio.to_thread(shown)
        assert (one["labels"]["severity"], one["status"]["state"]) == ("warning", "active")
        await world.take(("alerts", records([alert(1, 2, severity="critical", **times)], 1)))
        await world.rest()
        (one,) = await asyncio.to_thread(shown)
        assert one["labels"]["severity"] == "critical"
        over = alert(1, 3, severity="critical", status="resolved", resolved_at=world.now, **times)
        await world.take(("alerts", records([over], 2)))
        await world.rest()
        assert await asyncio.to_thread(shown) == []
        await world.end()
        await post.close()
        return world

    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                assert shown() == []
                break
            except OSError:
                assert time.monotonic() < deadline, "Alertmanager did not start"
                time.sleep(0.1)
        world = asyncio.run(run())
    finally:
        process.terminate()
        process.wait(20)
    assert {fact["http_status"] for fact in world.log.deliveries().values()} == {200}
