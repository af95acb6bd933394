"""The only wiring: which agents make up a role. Each role is a Faust app of its own, with its own consumer
group, so that each can run in its own worker and scale alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streams.adapters.kafka.worker import WorkerApp, make_faust_app
from streams.settings import Settings, SettingsError

# A role imports its own agents only: Arrow and the ClickHouse client would double the start of the others.


def _customers(settings: Settings) -> WorkerApp:
    from streams.agents import customers, ticks

    # Plain records: the fact topics are public, and not every client has every codec.
    app = make_faust_app(settings, "customers")
    agent = customers.register(app, settings)
    if settings.ticks == "wall":
        ticks.register(app, settings, agent)
    return app


def _sink(settings: Settings) -> WorkerApp:
    from streams.agents import sink

    # What the sink writes may be written again by anyone: a row replaces itself.
    app = make_faust_app(settings, "sink", must_drain=False, places_wanted=True)
    sink.register(app, settings)
    return app


def _shops(settings: Settings) -> WorkerApp:
    from streams.agents import shops

    app = make_faust_app(settings, "shops")
    shops.register(app, settings)
    return app


def _hooks(settings: Settings) -> WorkerApp:
    from streams.agents import hooks

    app = make_faust_app(settings, "hooks")
    hooks.register(app, settings)
    return app


ROLES: Final[dict[str, Callable[[Settings], WorkerApp]]] = {
    "customers": _customers,
    "sink": _sink,
    "shops": _shops,
    "hooks": _hooks,
}


def create_app(settings: Settings, role: str) -> WorkerApp:
    """The Faust app of ``role``, one of ROLES; SettingsError for another."""
    make = ROLES.get(role)
    if make is None:
        raise SettingsError(f"there is no agent {role!r}; the agents are {', '.join(ROLES)}")
    return make(settings)
