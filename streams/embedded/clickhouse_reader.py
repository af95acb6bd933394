"""What the user of BI tools may ask the embedded endpoint: to read, and nothing that is not on a list.

ClickHouse's own ``readonly`` is not enough: it lets through table functions that reach files and servers,
and any setting where it is 2. So a statement is looked at as the engine's parser prints it, and settings by
name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Final

from streams.embedded.clickhouse_sql import ACCESS_DENIED, Refused, Statement, Word, words

USER: Final = "bi"
READONLY: Final = 164
_CONSTRAINT: Final = 452

_VERBS: Final = frozenset({"SELECT", "WITH", "(", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN"})
_SHOWN: Final = frozenset(
    {
        "COLUMNS", "CREATE", "DATABASES", "EXTENDED", "FULL", "FUNCTIONS", "INDEX", "INDEXES", "SETTINGS",
        "TABLES",
    }
)  # fmt: skip
#: Of SHOW CREATE; others have users, roles and their like.
_CREATED: Final = frozenset({"TABLE", "VIEW", "DICTIONARY", "DATABASE"})
_EXPLAINED: Final = frozenset({"AST", "SYNTAX", "QUERY", "TREE", "PLAN", "PIPELINE", "ESTIMATE"})
_NO_READING: Final = frozenset(
    {("INSERT", "INTO"), ("INTO", "OUTFILE"), ("TABLE", "OVERRIDE"), ("PARALLEL", "WITH")}
)
#: What may come after a SETTINGS clause.
_AFTER_CLAUSE: Final = frozenset({")", "FORMAT", "UNION", "INTERSECT", "EXCEPT", ";"})
#: Of the tables of the server itself, those that tools ask to find their way.
SYSTEM_TABLES: Final = frozenset(
    {
        "build_options", "collations", "columns", "data_skipping_indices", "data_type_families",
        "databases", "formats", "functions", "keywords", "licenses", "macros", "numbers", "numbers_mt",
        "one", "parts", "parts_columns", "settings", "table_engines", "table_functions",
        "tables", "time_zones", "zeros", "zeros_mt",
    }
)  # fmt: skip
#: Functions of tables that are kept for the owner: some read other databases by pattern, some for ever.
_OWNERS_TABLES: Final = frozenset(
    {
        "dictionary", "fuzzjson", "input", "loop", "merge", "mergetreeanalyzeindexes",
        "mergetreeanalyzeindexesuuid", "mergetreecodecblockcounts", "mergetreeindex", "mergetreeprojection",
        "mergetreetextindex", "viewexplain", "viewifpermitted",
    }
)  # fmt: skip
#: Functions that are not to be named either, as in ``* APPLY sleep``: they wait, write or tell of the server.
OWNERS_FUNCTIONS: Final = frozenset(
    {
        "filesystemavailable", "filesystemcapacity", "filesystemunreserved", "generateserialid", "getmacro",
        "getserverport", "getserversetting", "joinget", "joingetornull", "logtrace", "showcertificate",
        "sleep", "sleepeachrow",
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
#: Unless a client asks for other bounds; and no text that is read as VALUES is evaluated.
_BOUNDS: Final = {
    "max_execution_time": "30",
    "max_memory_usage": "4000000000",
    "max_result_rows": "1000000",
    "input_format_values_interpret_expressions": "0",
    "input_format_values_deduce_templates_of_expressions": "0",
}
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


def check(statement: Statement, database: str, others: Collection[str]) -> None:
    """Refused unless the statement only reads, in the product's database and what tools need of the server's.

    others: the names, in lower case, of databases that are not the product's.
    """
    if database.lower() in {"system", *others}:
        raise _refusal(f"the database {database} is the owner's")
    tokens = words(statement.text)
    texts = [token.text for token in tokens]
    if statement.verb not in _VERBS:
        raise _refusal(f"{statement.verb} is no reading")
    if statement.verb == "SHOW":
        _check_show(tokens, others)
    if statement.verb == "EXPLAIN" and _explained(texts) not in ("SELECT", "WITH", "("):
        raise _refusal("EXPLAIN of what is no SELECT is the owner's")
    for at, token in enumerate(tokens):
        following = texts[at + 1] if at + 1 < len(texts) else ""
        after = tokens[at + 2] if at + 2 < len(tokens) else None
        called = following == "(" and token.name in _OWNERS_TABLES
        if called or (token.name in OWNERS_FUNCTIONS and texts[at - 1 : at] not in (["."], ["AS"])):
            raise _refusal(f"the function {token.text}() is the owner's")
        if token.name == "system" and following == "." and (after is None or after.name not in SYSTEM_TABLES):
            raise _refusal(f"the table system.{after.text if after else ''} is the owner's")
        if token.name in others and following == ".":
            raise _refusal(f"the database {token.text} is the owner's")
        if (token.text, following) in _NO_READING:
            raise _refusal(f"{token.text} {following} is no reading")
        if token.text == ":" and following == "Identifier":
            raise _refusal("names cannot be parameters")
        if token.text == "SETTINGS" and (statement.verb, at) != ("SHOW", 1):
            _check_clause(texts[at + 1 :])


def _check_show(tokens: list[Word], others: Collection[str]) -> None:
    what = [token.text for token in tokens[1:3]]
    if what[0] not in _SHOWN or (what[0] == "CREATE" and what[1] not in _CREATED):
        raise _refusal(f"SHOW {' '.join(what)} is the owner's")
    for before, token in pairwise(tokens):
        is_database = before.text in ("FROM", "IN", "DATABASE")
        if is_database and token.name in {"system", *others} and what[0] != "TABLES":
            raise _refusal(f"SHOW {what[0]} of the database {token.text} is the owner's")


def _explained(texts: list[str]) -> str:
    """The first word of the statement that an EXPLAIN explains."""
    at = 1
    while at < len(texts):
        if texts[at + 1 : at + 2] == ["="]:
            at += 3
        elif texts[at] in _EXPLAINED or texts[at] == ",":
            at += 1
        else:
            return texts[at]
    return ""


def _check_clause(texts: list[str]) -> None:
    """Refused unless a reader may have the SETTINGS clause whose words ``texts`` begin with."""
    at = 0
    while at < len(texts):
        name, value = texts[at].strip('`"'), "1"  # what a name alone means
        at += 1
        if texts[at : at + 1] == ["="]:
            signed = texts[at + 1 : at + 2] == ["-"]
            value = "".join(texts[at + 1 : at + 2 + signed])
            at += 2 + signed
        _check_setting(name, value.strip("'"))
        if at >= len(texts) or texts[at] in _AFTER_CLAUSE:
            return
        if texts[at] != ",":
            break
        at += 1
    raise _refusal("a setting's value is one number, word or text")


def _check_setting(name: str, value: str) -> None:
    if _FORMATTING.fullmatch(name):
        return
    if name not in SETTINGS:
        raise Refused(
            READONLY, f"Cannot modify {name!r} setting: it is not for the user {USER} to change. (READONLY)"
        )
    most = SETTINGS[name]
    # A whole number: what is less than 1 the engine takes for 0, which is its word for no bound.
    if most is not None and not (value.isascii() and value.isdigit() and 0 < int(value) <= most):
        raise Refused(
            _CONSTRAINT,
            f"Setting {name} should be from 1 to {most:.0f}, not {value!r}. (SETTING_CONSTRAINT_VIOLATION)",
        )


def _refusal(why: str) -> Refused:
    return Refused(
        ACCESS_DENIED, f"Not allowed to the user {USER}, who may only read: {why}. (ACCESS_DENIED)"
    )
