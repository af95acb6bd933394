"""What the user of BI tools may ask the embedded endpoint: to read, and nothing that is not on a list.

ClickHouse's own ``readonly`` is not enough: it lets through table functions that reach files and servers,
and any setting where it is 2. So a statement is looked at as the engine's parser prints it, and settings by
name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from streams.embedded.clickhouse_sql import ACCESS_DENIED, Refused, Statement, words

USER: Final = "bi"
READONLY: Final = 164
_CONSTRAINT: Final = 452

_VERBS: Final = frozenset({"SELECT", "WITH", "(", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN"})
_SHOWN: Final = frozenset(
    {
        "CREATE",
        "TABLES",
        "DATABASES",
        "COLUMNS",
        "FULL",
        "EXTENDED",
        "INDEX",
        "INDEXES",
        "FUNCTIONS",
        "SETTINGS",
    }
)
#: Of the tables of the server itself, those that tools ask to find their way.
SYSTEM_TABLES: Final = frozenset(
    {
        "build_options", "collations", "columns", "data_skipping_indices", "data_type_families",
        "databases", "formats", "functions", "keywords", "licenses", "macros", "numbers", "numbers_mt",
        "one", "parts", "parts_columns", "schema_inference_cache", "settings", "table_engines",
        "table_functions", "tables", "time_zones", "zeros", "zeros_mt",
    }
)  # fmt: skip
#: Called like functions and kept for the owner: some read tables of other databases by pattern, some write.
_OWNERS_FUNCTIONS: Final = frozenset(
    {
        "dictionary", "fuzzjson", "input", "joinget", "joingetornull", "loop", "merge",
        "mergetreeanalyzeindexes", "mergetreeanalyzeindexesuuid", "mergetreecodecblockcounts",
        "mergetreeindex", "mergetreeprojection", "mergetreetextindex", "sleep", "sleepeachrow",
        "viewexplain", "viewifpermitted",
    }
)  # fmt: skip
#: Settings that change how an answer looks or what it may cost. Numbers: not more than that.
SETTINGS: Final[Mapping[str, float | None]] = {
    "allow_suspicious_low_cardinality_types": None,
    "async_insert": None,
    "cancel_http_readonly_queries_on_client_close": None,
    "cast_string_to_dynamic_use_inference": None,
    "date_time_input_format": None,
    "date_time_output_format": None,
    "distributed_product_mode": None,
    "do_not_merge_across_partitions_select_final": None,
    "enable_http_compression": None,
    "extremes": None,
    "final": None,
    "group_by_use_nulls": None,
    "http_headers_progress_interval_ms": None,
    "http_response_buffer_size": 64 << 20,
    "join_use_nulls": None,
    "limit": None,
    "log_comment": None,
    "max_block_size": 1 << 20,
    "max_bytes_to_read": None,
    "max_execution_time": 120,
    "max_memory_usage": 8e9,
    "max_partitions_per_insert_block": None,
    "max_result_bytes": None,
    "max_result_rows": 10_000_000,
    "max_rows_to_read": None,
    "max_threads": 16,
    "offset": None,
    "prefer_column_name_to_alias": None,
    "read_overflow_mode": None,
    "result_overflow_mode": None,
    "send_progress_in_http_headers": None,
    "session_timezone": None,
    "timeout_overflow_mode": None,
    "use_client_time_zone": None,
    "wait_for_async_insert": None,
}
#: Unless a client asks for other bounds.
_BOUNDS: Final = {"max_execution_time": "30", "max_memory_usage": "4000000000", "max_result_rows": "1000000"}
_FORMATTING: Final = re.compile(r"output_format_(?!schema|template)\w+")


def bounded(settings: Mapping[str, str]) -> dict[str, str]:
    """``settings`` as a reader may have them, with the bounds that hold otherwise; Refused for any other."""
    taken = dict(_BOUNDS)
    for name, value in settings.items():
        # What the reader may do does not depend on what they say of it.
        if name != "readonly":
            _check_setting(name, value)
            taken[name] = value
    # 2, not 1: what a question says of itself in SETTINGS is looked at as well.
    return {**taken, "readonly": "2"}


def check(statement: Statement, database: str) -> None:
    """Refused unless the statement only reads, in the product's databases and what tools need of the
    server's."""
    if database.lower() == "system":
        raise _refusal("the database system is the owner's")
    tokens = words(statement.text)
    texts = [token.text for token in tokens]
    if statement.verb not in _VERBS:
        raise _refusal(f"{statement.verb} is no reading")
    if statement.verb == "SHOW" and texts[1] not in _SHOWN:
        raise _refusal(f"SHOW {texts[1]} is the owner's")
    if statement.verb == "EXPLAIN" and not {"SELECT", "WITH"} & set(texts):
        raise _refusal("EXPLAIN of what is no SELECT is the owner's")
    for at, token in enumerate(tokens):
        following = texts[at + 1] if at + 1 < len(texts) else ""
        after = tokens[at + 2] if at + 2 < len(tokens) else None
        if following == "(" and token.name in _OWNERS_FUNCTIONS:
            raise _refusal(f"the function {token.text}() is the owner's")
        if token.name == "system" and following == "." and (after is None or after.name not in SYSTEM_TABLES):
            raise _refusal(f"the table system.{after.text if after else ''} is the owner's")
        if (token.text, following) in (("INSERT", "INTO"), ("INTO", "OUTFILE"), ("TABLE", "OVERRIDE")):
            raise _refusal(f"{token.text} {following} is no reading")
        if token.text == ":" and following == "Identifier":
            raise _refusal("names cannot be parameters")
        if token.text == "SETTINGS":
            _check_clause(texts[at + 1 :])


def _check_clause(texts: list[str]) -> None:
    """The names and values of a SETTINGS clause, of which ``texts`` are the words."""
    at = 0
    while at + 2 < len(texts) and texts[at + 1] == "=":
        _check_setting(texts[at].strip('`"'), texts[at + 2].strip("'"))
        at += 3
        if at >= len(texts) or texts[at] != ",":
            return
        at += 1


def _check_setting(name: str, value: str) -> None:
    if _FORMATTING.fullmatch(name):
        return
    if name not in SETTINGS:
        raise Refused(
            READONLY, f"Cannot modify {name!r} setting: it is not for the user {USER} to change. (READONLY)"
        )
    most = SETTINGS[name]
    if most is None:
        return
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    # 0 is ClickHouse's word for no bound.
    if not 0 < number <= most:
        raise Refused(
            _CONSTRAINT,
            f"Setting {name} should be from 1 to {most:.0f}, not {value!r}. (SETTING_CONSTRAINT_VIOLATION)",
        )


def _refusal(why: str) -> Refused:
    return Refused(
        ACCESS_DENIED, f"Not allowed to the user {USER}, who may only read: {why}. (ACCESS_DENIED)"
    )
