"""What a statement sent to the embedded ClickHouse endpoint is, and whether it may run there.

The checks read the statement as the engine's own parser prints it (``formatQuerySingleLine``): without
comments, with names unescaped and keywords in capitals. So they cannot be led astray by a comment, an
escaped or quoted name, or any other spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

ACCESS_DENIED = 497
NOT_IMPLEMENTED = 48

#: Table functions that read nothing but this database; every other one the engine knows is refused.
SAFE_TABLE_FUNCTIONS = frozenset(
    {
        "dictionary", "format", "fuzzjson", "generate_series", "generaterandom", "generateseries", "input",
        "loop", "merge", "mergetreeanalyzeindexes", "mergetreeanalyzeindexesuuid",
        "mergetreecodecblockcounts",
        "mergetreeindex", "mergetreeprojection", "mergetreetextindex", "null", "numbers", "numbers_mt",
        "primes", "sqlstandardvalues", "values", "view", "viewexplain", "viewifpermitted",
        "zeros", "zeros_mt",
    }
)  # fmt: skip
_UNSAFE_FUNCTIONS = frozenset({"catboostevaluate", "disk", "executable", "file"})
_SAFE_ENGINES = frozenset(
    {
        "atomic", "buffer", "dictionary", "generaterandom", "join", "log", "materializedview", "memory",
        "merge", "null", "set", "stripelog", "tinylog", "view",
    }
)  # fmt: skip
_SAFE_DICTIONARY_SOURCES = frozenset({"clickhouse", "null"})
#: What a dictionary's source says of another server, or as a text that the engine runs and nobody has read.
_UNREAD_SOURCES = frozenset({"host", "query", "where", "invalidate_query"})

_SKIP = rb"(?:\s|--[^\n]*(?:\n|$)|#[ !][^\n]*(?:\n|$)|/\*.*?\*/)"
_INSERT = re.compile(_SKIP + rb"*INSERT\b", re.IGNORECASE | re.DOTALL)
_HEAD_TOKEN = re.compile(
    rb"(?P<skip>" + _SKIP + rb"+)|(?P<quoted>'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\")"
    rb"|(?P<word>[A-Za-z_]\w*)|(?P<other>.)",
    re.DOTALL,
)
_MAX_HEAD = 262_144  # bytes; ClickHouse's own max_query_size
_DATA_START = re.compile(rb"[ \t\f]*\r?\n?")

_TOKEN = re.compile(
    r"(?P<string>'(?:[^'\\]|\\.)*')|(?P<quoted>`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<number>[0-9][\w.]*)|(?P<other>\S)",
    re.DOTALL,
)


class Refused(Exception):
    """A statement the endpoint does not run. ``code`` is ClickHouse's error code, the text one sentence."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Denied:
    """Names, in lower case, of functions that reach outside of the database."""

    called: frozenset[str]
    #: Not to be named either: the name alone is an argument of others, as in ``arrayMap(file, paths)``.
    named: frozenset[str]

    @classmethod
    def of(cls, table_functions: Iterable[str], functions: Iterable[str]) -> Self:
        """From the names, in lower case, of all that the engine knows."""
        plain = frozenset(functions)
        outward = {name for name in plain if name.startswith("ai")}  # they ask a model somewhere
        called = (frozenset(table_functions) - SAFE_TABLE_FUNCTIONS) | outward | _UNSAFE_FUNCTIONS
        return cls(called, called & plain)


@dataclass(frozen=True, slots=True)
class InsertHead:
    """``INSERT INTO ...`` up to its format (``sql``), the format, and where its data begins."""

    sql: bytes
    format: str
    data_at: int


def split_insert(text: bytes) -> InsertHead | None:
    """The head of an INSERT that brings its data along; None for every other statement."""
    if _INSERT.match(text) is None:
        return None
    depth, previous = 0, b""
    format_at = -1
    for token in _HEAD_TOKEN.finditer(text, 0, _MAX_HEAD):
        if token.lastgroup == "skip":
            continue
        value = token[0]
        word = value.upper() if token.lastgroup == "word" else b""
        if format_at >= 0:
            if not word:
                return None
            data_at = _DATA_START.match(text, token.end())
            assert data_at is not None
            return InsertHead(text[:format_at], value.decode(), data_at.end())
        if value in b"([{":
            depth += 1
        elif value in b")]}":
            depth -= 1
        elif depth == 0 and previous not in (b"INTO", b"TABLE", b"."):
            if word == b"VALUES":
                return InsertHead(text[: token.start()], "Values", token.end())
            if word == b"FORMAT":
                format_at = token.start()
        previous = word or value
    return None


@dataclass(frozen=True, slots=True)
class Word:
    """One word, name, text, number or sign of a statement."""

    text: str
    name: str  # a word or quoted name in lower case, otherwise empty


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement in the engine's own spelling."""

    verb: str  # its first word: SELECT, WITH, INSERT, CREATE, ...
    format: str | None  # of its FORMAT clause
    text: str  # all of it

    @property
    def is_select(self) -> bool:
        return self.verb in ("SELECT", "WITH", "(")


def read_statement(canonical: str, denied: Denied) -> Statement:
    """Reads a statement the engine has printed; Refused if it reaches outside of the database."""
    tokens = words(canonical)
    texts = [token.text for token in tokens]
    verb = texts[0] if texts else ""
    _check_verb(verb, texts)
    defines = verb in ("CREATE", "ATTACH", "REPLACE", "ALTER")
    for at, token in enumerate(tokens):
        following = texts[at + 1] if at + 1 < len(texts) else ""
        if following == "(" and token.name in denied.called:
            raise _refusal(f"the function {token.text}() reaches outside of the database")
        if token.name in denied.named and texts[at - 1 : at] not in (["."], ["AS"]):
            raise _refusal(f"{token.text} is the name of a function that reaches outside of the database")
        if following == "(" and token.name == "format" and not _is_pattern(texts[at + 2 : at + 4]):
            raise _refusal("the function format() evaluates what the text says that it reads")
        if (token.text, following) in (("INTO", "OUTFILE"), ("FROM", "INFILE")):
            raise _refusal(f"{token.text} {following} reads or writes files of the server")
        if (token.text, following) in (("INTO", "FUNCTION"), ("TABLE", "FUNCTION")) and verb == "INSERT":
            raise _refusal("INSERT INTO FUNCTION writes outside of the database")
        if not defines:
            continue
        if token.text == "ENGINE" and following == "=":
            engine = tokens[at + 2] if at + 2 < len(tokens) else token
            if engine.name not in _SAFE_ENGINES and not engine.name.endswith("mergetree"):
                raise _refusal(f"ENGINE = {engine.text} reaches outside of the database")
        if token.text == "SOURCE" and following == "(":
            source = tokens[at + 2] if at + 2 < len(tokens) else token
            said = {word.name for word in tokens[at:]}
            if source.name not in _SAFE_DICTIONARY_SOURCES or said & _UNREAD_SOURCES:
                raise _refusal(f"a dictionary from {source.text} reaches outside of the database")
    return Statement(verb, _format_clause(texts), canonical)


def check_parameters(statement: Statement, parameters: Mapping[str, str], denied: Denied) -> None:
    """Refuses a parameter that stands for a name, and is that of such a function."""
    for parameter in re.findall(r"\{(\w+):\s*Identifier\}", statement.text):
        value = parameters.get(parameter, "")
        if "\\" in value or value.strip('`" ').lower() in denied.named:
            raise _refusal(f"{value!r} may name a function that reaches outside of the database")


def words(canonical: str) -> list[Word]:
    """The words of a statement that the engine has printed."""
    return [
        Word(
            m[0],
            m[0].lower() if m.lastgroup == "word" else m[0][1:-1].lower() if m.lastgroup == "quoted" else "",
        )
        for m in _TOKEN.finditer(canonical)
    ]


def check_values(data: bytes, denied: Denied) -> None:
    """Refuses VALUES that call or name such a function: the engine evaluates expressions in them."""
    strings_blanked = re.sub(rb"'(?:[^'\\]|\\.|'')*'", b"''", data, flags=re.DOTALL)
    # Up to the first of these outside of a string, the above reads the data as the engine does.
    exotic = re.search(rb"[`\"$#]|/\*|--|[^\x00-\x7f]", strings_blanked)
    text = (data if exotic else strings_blanked).decode(errors="replace")
    if "(" not in text:
        return
    for match in re.finditer(r"(\w+)[`\"]?(?:\s|--[^\n]*\n|#[^\n]*\n|/\*.*?\*/)*\(", text, re.DOTALL):
        if match[1].lower() in denied.called or match[1].lower() == "format":
            raise _refusal(f"the function {match[1]}() reaches outside of the database")
    for match in re.finditer(r"[A-Za-z_]\w*", text):
        if match[0].lower() in denied.named:
            raise _refusal(f"{match[0]} is the name of a function that reaches outside of the database")
    if re.search(r"[`\"][^`\"]*\\[^`\"]*[`\"]", text) and exotic:
        raise _refusal("an escaped name in VALUES cannot be checked")


def _check_verb(verb: str, texts: list[str]) -> None:
    if verb in ("BACKUP", "RESTORE"):
        raise _refusal(f"{verb} reads or writes files of the server")
    if verb == "SYSTEM" and texts[1:2] and texts[1] in ("SHUTDOWN", "KILL", "ENABLE", "DISABLE"):
        raise _refusal(f"SYSTEM {texts[1]} is for the owner of the process")
    if verb == "ATTACH" and any(first == "FROM" and then.startswith("'") for first, then in pairwise(texts)):
        raise _refusal("ATTACH ... FROM reads files of the server")


def _is_pattern(arguments: list[str]) -> bool:
    """As of ``format('{}…', …)``, which fills in a text; what makes a table begins with a format's name."""
    return arguments[1:] == [","] and arguments[0].startswith("'") and "{" in arguments[0]


def _format_clause(texts: list[str]) -> str | None:
    for at in range(len(texts) - 2, 0, -1):
        if texts[at] == "FORMAT" and (at + 2 == len(texts) or texts[at + 2] == "SETTINGS"):
            return texts[at + 1]
    return None


def _refusal(why: str) -> Refused:
    return Refused(ACCESS_DENIED, f"Not allowed on the embedded endpoint: {why}. (ACCESS_DENIED)")
