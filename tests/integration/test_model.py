"""Models published and read back, and the commands that fit, show and test them, on real servers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result
from clickhouse_connect.driver.client import Client

from schemas.topics import MODELS
from streams.adapters.clickhouse import Store
from streams.adapters.kafka.admin import AdminError, create_topics
from streams.adapters.kafka.models import Published, encode, publish, published
from streams.cli import main
from streams.domain.comeback import Comeback
from streams.domain.lapse import BetaGeometric, ModifiedBetaGeometric, PersonalRhythm
from streams.domain.outlook import ShopModel
from streams.domain.rfm import Cuts
from streams.settings import Settings
from tests.integration.buyers import START, shop_of, store_customers, store_orders, store_watermark
from tests.integration.pipelines import deployed

DAYS: Final = 400
OWN: Final = ModifiedBetaGeometric(0.9, 45.0, 0.8, 2.0)
MODEL: Final = ShopModel(
    shop_id="s1",
    version=7,
    lapse=OWN,
    comeback=Comeback(OWN, 90.0, 0.25, 0.9, 0.3),
    cuts=Cuts((1, 2, 3, 4), (1, 1, 2, 3), {"CNY": (-5, 10, 20, 30)}, {"": (1, 2, 3, 4)}),
    fitted_at=1_772_452_800_000,
)


@pytest.fixture
def models(settings: Settings) -> Settings:
    """A deployment's settings with the topic behind them, of three partitions."""
    found = replace(settings, partitions=3)
    create_topics(found, [MODELS])
    return found


def send(settings: Settings, partition: int, key: bytes, value: bytes | None) -> None:
    """One record to one partition, as a publication that is cut leaves it."""

    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
            await producer.send_and_wait(settings.topic("models"), value, key=key, partition=partition)

    asyncio.run(run())


def test_every_partition_gets_every_model(models: Settings) -> None:
    others = ShopModel(version=7, lapse=BetaGeometric(0.2, 4.0, 0.8, 2.0))
    assert published(models) == Published({}, {}, ())
    assert publish(models, [others, MODEL]) == models.partitions
    found = published(models)
    assert found == Published({"": others, "s1": MODEL}, {}, ())
    assert found.newest == 7


def test_the_highest_version_is_in_force_whatever_came_last(models: Settings) -> None:
    newer, older = msgspec.structs.replace(MODEL, version=9), msgspec.structs.replace(MODEL, version=8)
    for each in (MODEL, newer, older):
        publish(models, [each])
    assert published(models).in_force == {"s1": newer}


def test_a_publication_that_was_cut_is_told_and_mended_by_the_next(models: Settings) -> None:
    publish(models, [MODEL])
    newer = msgspec.structs.replace(MODEL, version=8)
    send(models, 1, b"s1", encode(newer))
    found = published(models)
    assert found.in_force == {"s1": newer}
    assert found.behind == {"s1": (0, 2)}
    shown = run(models, "show")
    assert shown.exit_code == 1
    assert "has not reached partition 0, 2" in shown.stderr
    assert "ebbtide model fit" in shown.stderr
    publish(models, [msgspec.structs.replace(MODEL, version=9)])
    assert published(models).behind == {}
    assert run(models, "show").exit_code == 0


def test_what_is_no_model_is_told_and_ignored(models: Settings) -> None:
    publish(models, [MODEL])
    impossible = encode(MODEL).replace(b'"r":0.9', b'"r":-1')
    assert impossible != encode(MODEL)
    for value in (b"{", impossible):
        send(models, 2, b"s1", value)
    found = published(models)
    assert found.in_force == {"s1": MODEL}
    assert not found.behind
    assert len(found.unreadable) == 2
    assert "ignored by workers" in run(models, "show").stderr


def test_a_topic_of_another_partition_count_is_refused(models: Settings) -> None:
    with pytest.raises(AdminError, match="has 3 partitions, EBBTIDE_PARTITIONS=4"):
        publish(replace(models, partitions=4), [MODEL])
    with pytest.raises(AdminError, match="ebbtide topics create"):
        publish(replace(models, topic_prefix="nowhere-"), [MODEL])
    assert published(models).in_force == {}


def run(settings: Settings, *args: str) -> Result:
    return CliRunner().invoke(main, ["model", *args], env=settings.to_env(), catch_exceptions=False)


@pytest.fixture(scope="module")
def marketplace(kafka: str, clickhouse: str) -> Iterator[Settings]:
    """A shop with buyers enough for a fit of its own and one with few: their orders and their profiles."""
    bought = [*shop_of("big", 900, DAYS, seed=1), *shop_of("small", 60, DAYS, seed=2)]
    with deployed(kafka, clickhouse, partitions=2) as (settings, client):
        with closing(Store(settings.clickhouse)) as store:
            store_orders(store, bought)
            store_watermark(store, START + DAYS)
        store_customers(client, bought, START + DAYS)
        yield settings


def fitted(settings: Settings, *args: str) -> dict[str, Any]:
    result = run(settings, "fit", "--json", *args)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_fit_publishes_what_show_shows(marketplace: Settings) -> None:
    """Every shop and the one for all others, to every partition; a later fit replaces an earlier one."""
    first = fitted(marketplace)
    assert first["partitions"] == 2
    assert [(m["shop_id"], m["basis"], m["buyers"]) for m in first["models"]] == [
        ("", "pooled", 960),
        ("big", "own", 900),
        ("small", "pooled", 60),
    ]
    assert all(m["converged"] and m["comeback"] for m in first["models"])
    assert not first["notes"]
    by_shop = {m["shop_id"]: m for m in first["models"]}
    assert by_shop["small"]["lapse"] == by_shop[""]["lapse"] != by_shop["big"]["lapse"]
    assert by_shop["big"]["comeback"]["base"] == by_shop["big"]["lapse"]
    assert by_shop["big"]["cuts"]["unit_price"] == {"CNY": [100_000] * 4}
    shown = json.loads(run(marketplace, "show", "--json").stdout)
    assert shown["problems"] == []
    assert [m["version"] for m in shown["models"]] == [first["version"]] * 3
    assert {m["shop_id"]: m["lapse"] for m in shown["models"]} == {s: m["lapse"] for s, m in by_shop.items()}
    second = fitted(marketplace, "--shop", "small")
    assert [m["shop_id"] for m in second["models"]] == ["small"]
    in_force = published(marketplace).in_force
    assert in_force["small"].version == second["version"] > in_force["big"].version == first["version"]


def test_the_same_data_and_day_give_the_same_models(marketplace: Settings) -> None:
    """But for the version and the time of the fit; a dry run publishes nothing."""
    before = published(marketplace)
    day = "2026-02-05"

    def told(*args: str) -> list[dict[str, Any]]:
        found = fitted(marketplace, "--dry-run", "--as-of", day, *args)
        assert found["as_of"] == day
        assert found["partitions"] is None
        return [{k: v for k, v in m.items() if k not in {"version", "fitted_at"}} for m in found["models"]]

    assert told() == told()
    assert {m["lapse"]["type"] for m in told("--model", "bg_nbd")} == {"bg_nbd"}
    assert published(marketplace) == before


def test_fit_and_show_for_people(marketplace: Settings) -> None:
    result = run(marketplace, "fit")
    assert result.exit_code == 0
    assert "3 model(s) as of 2026-02-05" in result.output
    assert "published to all 2 partitions" in result.output
    shown = run(marketplace, "show", "--shop", "nobody")
    assert shown.exit_code == 0
    assert "'nobody' has no model of its own" in shown.output
    assert "(all others)" in shown.output


def test_backtest_tells_of_what_happened(marketplace: Settings) -> None:
    """Better than by chance, calibrated in the large, and with the rules beside it."""
    (result,) = json.loads(run(marketplace, "backtest", "--json", "--cut", "2025-10-01").stdout)["backtests"]
    model, rule = result["predictors"]["ebbtide"], result["predictors"]["recency rule"]
    assert result["shops"] == {"own": 1, "pooled": 1, "personal": 0}
    assert model["auc"] > 0.6
    assert rule["auc"] > 0.5
    said = sum(b["said"] * b["buyers"] for b in model["reliability"]) / result["buyers"]
    assert said == pytest.approx(result["returned"], abs=0.1)
    assert result["lead"]["rule_days"] == 90
    assert result["lead"]["rule_flags"] > 50
    shown = run(marketplace, "backtest", "--within", "60d", "--shop", "big")
    assert shown.exit_code == 0
    assert shown.output.count("next 60 days") == 3
    assert "recency rule" in shown.output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fit", "--shop", "nobody", "--dry-run"], "'nobody' has no buyer"),
        (["fit", "--as-of", "2025-05-01", "--dry-run"], "name a later day"),
        (["fit", "--as-of", "2026-02-06", "--dry-run"], "has come to 2026-02-05"),
        (["fit", "--data-dir", "kept"], "--dry-run"),
        (["backtest", "--cut", "2026-01-15"], "is no day to test at"),
        (["backtest", "--cut", "2025-01-15"], "is no day to test at"),
        (["backtest", "--within", "390d"], "shorter --within"),
        (["backtest", "--shop", "nobody"], "'nobody' had no buyer"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(marketplace: Settings, args: list[str], said: str) -> None:
    result = run(marketplace, *args)
    assert result.exit_code not in (0, None)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert said in line


def test_without_raw_events_there_is_a_fit_and_no_calibration(kafka: str, clickhouse: str) -> None:
    bought = shop_of("big", 400, DAYS, seed=3)
    with deployed(kafka, clickhouse, partitions=2) as (settings, client):
        refused = run(settings, "fit")
        assert refused.exit_code == 1
        assert "nothing has been ingested yet" in refused.stderr
        assert run(settings, "show").output.startswith("no model is published")
        with closing(Store(settings.clickhouse)) as store:
            store_watermark(store, START + DAYS)
        store_customers(client, bought, START + DAYS)
        found = fitted(settings)
        assert [m["comeback"] for m in found["models"]] == [None, None]
        assert any("raw events do not hold the orders" in note for note in found["notes"])
        assert any("price band" in note for note in found["notes"])
        assert "EBBTIDE_STORE_EVENTS" in run(settings, "backtest").stderr
        few(client, settings)


def few(client: Client, settings: Settings) -> None:
    """Too few buyers in all shops: the personal rhythm, uncalibrated, and no cut points."""
    client.command("TRUNCATE TABLE customers")
    store_customers(client, shop_of("tiny", 5, DAYS, seed=4), START + DAYS)
    found = fitted(settings)
    assert [m["basis"] for m in found["models"]] == ["personal", "personal"]
    assert published(settings).in_force["tiny"].lapse == PersonalRhythm()
    assert [m["cuts"] for m in found["models"]] == [None, None]
    assert any("too few buyers for cut points" in note for note in found["notes"])


def test_no_worker_waits_for_scipy() -> None:
    code = "import sys, streams.cli; print('scipy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
