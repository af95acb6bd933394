"""Shops told by a file: what the file may say, and what every partition then has, on real servers."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result

from schemas.losses import ShopFact
from schemas.topics import SHOPS
from streams.adapters.kafka.admin import create_topics
from streams.adapters.kafka.shops import published_shops
from streams.adapters.shops_file import ShopEntry, ShopsFileError, read_shops
from streams.cli import main
from streams.settings import Settings

GOOD: Final = """
shops:
  - {shop_id: shop-1, name: 海潮数码, zone: Asia/Shanghai, currency: CNY}
  - shop_id: shop-2
    name: Tide & Co
    zone: America/New_York
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "shops.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def run(*args: str) -> Result:
    clean = {name: None for name in os.environ if name.startswith("EBBTIDE_")}
    return CliRunner().invoke(main, ["shops", *args], env=clean, catch_exceptions=False)


def test_a_file_says_name_zone_and_perhaps_a_currency(tmp_path: Path) -> None:
    assert read_shops(write(tmp_path, GOOD)) == [
        ShopEntry(shop_id="shop-1", name="海潮数码", zone="Asia/Shanghai", currency="CNY"),
        ShopEntry(shop_id="shop-2", name="Tide & Co", zone="America/New_York", currency=None),
    ]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{shop_id: s, name: S}", "entry 1 (s): zone is missing"),
        ("{name: S, zone: UTC}", "entry 1: shop_id is missing"),
        ("{shop_id: 42, name: S, zone: UTC}", "entry 1 (42): shop_id: 42 is no text; put it in quotes"),
        ("{shop_id: '', name: S, zone: UTC}", "entry 1 (): shop_id"),
        ("{shop_id: s, name: ' ', zone: UTC}", "entry 1 (s): name"),
        ("{shop_id: s, name: S, zone: Europe/Lodnon}", "'Europe/Lodnon' is no IANA zone, like Europe/London"),
        ("{shop_id: s, name: S, zone: ../UTC}", "is no IANA zone"),
        ("{shop_id: s, name: S, zone: UTC, currency: eur}", "'eur' is not three capital letters, like EUR"),
        ("{shop_id: s, name: S, zone: UTC, currency: QQQ}", "'QQQ' is no currency of ISO 4217"),
        ("{shop_id: s, name: S, zone: UTC, currency: NO}", "currency: False is no text; put it in quotes"),
        ("{shop_id: s, name: S, zone: UTC, timezone: UTC}", "timezone is nothing that is known of a shop"),
        ("just a name", "entry 1: 'just a name' is no shop; write it as"),
        ("{shop_id: s, name: S, zone: UTC}\n  - {shop_id: s, name: T, zone: UTC}", "entry 2 (s): the same"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_entry(tmp_path: Path, entry: str, said: str) -> None:
    path = write(tmp_path, f"shops:\n  - {entry}\n")
    with pytest.raises(ShopsFileError) as found:
        read_shops(path)
    assert said in str(found.value)
    assert str(path) in str(found.value)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "shops:\n  - {shop_id: a, zone: X}\n  - {shop_id: b, name: B, zone: UTC}\n  - 7\n")
    with pytest.raises(ShopsFileError) as found:
        read_shops(path)
    assert [line.split(":")[0] for line in str(found.value).splitlines()] == [
        *[f"{path}, entry 1 (a)"] * 2,
        f"{path}, entry 3",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no list of shops"),
        ("shops: {}", "has no list of shops"),
        ("shops: []", "has no list of shops"),
        ("- shop_id: s", "has no list of shops"),
        ("shops: [", "is no YAML"),
        ("shops: !!python/object/apply:os.getcwd []", "is no YAML"),
    ],
)
def test_a_file_of_another_shape_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    result = run("publish", str(write(tmp_path, text)))
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output
    assert "cannot be read" in run("publish", str(tmp_path / "none.yaml")).output


@pytest.fixture
def deployment(settings: Settings) -> Settings:
    """A deployment's settings with the topic behind them, of three partitions."""
    found = replace(settings, partitions=3)
    create_topics(found, [SHOPS])
    return found


def shops(deployment: Settings, *args: str) -> Result:
    where = ["--kafka", deployment.kafka, "--topic-prefix", deployment.topic_prefix]
    env = {"EBBTIDE_PARTITIONS": str(deployment.partitions)}
    return CliRunner().invoke(main, ["shops", *args, *where], env=env, catch_exceptions=False)


def test_every_partition_gets_every_shop_and_what_is_the_same_is_not_sent_again(
    deployment: Settings, tmp_path: Path
) -> None:
    assert "nothing is published of any shop" in shops(deployment, "list").output
    path = write(tmp_path, GOOD)
    assert "2 shop(s) published to all 3 partitions" in shops(deployment, "publish", str(path)).output
    found = published_shops(deployment)
    assert (found.behind, found.unreadable) == ({}, ())
    assert [(s.shop_id, s.name, s.zone, s.currency) for s in found.in_force.values()] == [
        ("shop-1", "海潮数码", "Asia/Shanghai", "CNY"),
        ("shop-2", "Tide & Co", "America/New_York", None),
    ]
    assert shops(deployment, "publish", str(path)).output == "2 shop(s): nothing has changed\n"
    assert published_shops(deployment) == found

    moved = write(tmp_path, GOOD.replace("America/New_York", "America/Chicago"))
    said = shops(deployment, "publish", str(moved))
    assert "shop-2 moves from America/New_York to America/Chicago" in said.output
    assert "1 shop(s) published to all 3 partitions" in said.output
    assert "1 as they were" in said.output
    now = published_shops(deployment).in_force
    assert now["shop-1"] == found.in_force["shop-1"]
    assert now["shop-2"].version > found.newest


def test_list_is_for_people_and_for_programs(deployment: Settings, tmp_path: Path) -> None:
    shops(deployment, "publish", str(write(tmp_path, GOOD)))
    told = shops(deployment, "list")
    assert told.exit_code == 0
    assert [line.split()[0] for line in told.output.splitlines()] == ["shop", "shop-1", "shop-2"]
    listed = json.loads(shops(deployment, "list", "--json").output)
    assert [shop["zone"] for shop in listed["shops"]] == ["Asia/Shanghai", "America/New_York"]


def test_a_publication_that_was_cut_is_told_and_mended_by_the_next(
    deployment: Settings, tmp_path: Path
) -> None:
    path = write(tmp_path, GOOD)
    shops(deployment, "publish", str(path))
    newest = published_shops(deployment).newest
    cut = ShopFact(
        shop_id="shop-2", name="Tide & Co", zone="America/New_York", currency=None, version=newest + 1
    )

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=deployment.kafka) as producer:
            name, value = deployment.topic(SHOPS.name), cut.model_dump_json().encode()
            await producer.send_and_wait(name, value, key=b"shop-2", partition=1)
            await producer.send_and_wait(name, b"{}", key=b"shop-3", partition=0)

    asyncio.run(send())
    told = shops(deployment, "list")
    assert told.exit_code == 1
    assert "shop 'shop-2': partitions 0, 2 lack what is in force" in told.output
    assert "is no shop" in told.output
    # It says the same of the shop, and is sent nevertheless.
    assert "1 shop(s) published" in shops(deployment, "publish", str(path)).output
    assert published_shops(deployment).behind == {}
