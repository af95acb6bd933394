"""The data contract as an AsyncAPI 3.0 document: what goes in, what comes out, on which topic, under which
key."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from pydantic import BaseModel

from schemas import events, facts, topics

_TITLE: Final = "Ebbtide"
_ABOUT: Final = (
    "Visits, favorites, carts and orders in; sessions, losses, buyers and alerts out. Topics carry the"
    " deployment's prefix, if it has one. All topics have the same number of partitions, and a customer's"
    " records are in the same one everywhere: the key is the customer_id in UTF-8, placed by murmur2 as"
    " Java's client does. Of several facts with one identity the one with the highest version counts."
)
_DOES: Final[dict[topics.Kind, str]] = {"input": "receive", "fact": "send"}


def document() -> dict[str, Any]:
    """The document. Payloads refer to the JSON Schemas beside it."""
    models: dict[str, type[BaseModel]] = {**events.MODELS, **facts.MODELS}
    public = [topic for topic in topics.ALL if topic.model is not None and topic.kind in _DOES]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": _TITLE,
            "version": _version(),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in public},
        "operations": {_operation(topic): _done(topic) for topic in public},
        "components": {
            "messages": {str(topic.model): _message(topic, models[topic.name]) for topic in public}
        },
    }


def _version() -> str:
    try:
        return version("ebbtide")
    except PackageNotFoundError:
        return "0"


def _channel(topic: topics.Topic) -> dict[str, Any]:
    config: dict[str, Any] = {"cleanup.policy": [topic.cleanup_policy]}
    if topic.retention_ms is not None:
        config["retention.ms"] = topic.retention_ms
    if topic.max_message_bytes is not None:
        config["max.message.bytes"] = topic.max_message_bytes
    return {
        "address": topic.name,
        "messages": {str(topic.model): {"$ref": f"#/components/messages/{topic.model}"}},
        "bindings": {"kafka": {"topic": topic.name, "topicConfiguration": config, "bindingVersion": "0.5.0"}},
    }


def _operation(topic: topics.Topic) -> str:
    return f"{_DOES[topic.kind]}-{topic.name}"


def _done(topic: topics.Topic) -> dict[str, Any]:
    return {
        "action": _DOES[topic.kind],
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{topic.model}"}],
    }


def _message(topic: topics.Topic, model: type[BaseModel]) -> dict[str, Any]:
    about = " ".join((model.__doc__ or "").split())
    message: dict[str, Any] = {
        "name": topic.model,
        "summary": about.split(". ")[0].rstrip(".") + ".",
        "contentType": "application/json",
        "payload": {"$ref": f"./json/{topic.name}.json"},
        "bindings": {
            "kafka": {"key": {"type": "string", "description": topic.key}, "bindingVersion": "0.5.0"}
        },
    }
    if topic is topics.DEAD_LETTERS:
        message["contentType"] = "application/octet-stream"
        del message["payload"]
        message["description"] = about
    return message
