"""Which user agents are machines': the list of the crawler-user-agents project, read fast.

The list (MIT, some 1,500 patterns, a release a month) names crawlers, monitors, link previews, headless
browsers and the HTTP libraries that scripts are written with. Of the lists that are kept it took no browser
and no app's inside browser of our test's for a machine; the others that did as well were slower by far, or
knew a third less. It is cut by what shops' own apps call themselves when nobody told them otherwise.

Its own search tries every pattern at every character: 650 µs for a browser's name. Nearly all patterns are
plain text, so here they are one tree of characters: 40 µs, once for each name that is not remembered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Final

#: Patterns that are left out: the library Android apps, a shop's own among them, speak HTTP with.
_OF_APPS: Final = ("okhttp",)
#: Names remembered; 2 KiB each at most, some 200 bytes as a rule.
_REMEMBERED: Final = 20_000
#: What a pattern is made of, where it is plain text: ``^`` at its start, escapes, sets of letters.
_PLAIN: Final = re.compile(r"\^?(?:\\[^A-Za-z0-9]|\[[A-Za-z]+\]|[^\\\[\](){}|*+?^$.])+")
_PIECE: Final = re.compile(r"\\(.)|\[([A-Za-z]+)\]|(.)", re.DOTALL)

_Tree = dict[str, "_Tree"]


@lru_cache(_REMEMBERED)
def is_crawler(user_agent: str) -> bool:
    """Whether a user agent is known to be a machine's; False for everything that is not known."""
    begins, patterns = _known()
    return user_agent.startswith(begins) or any(pattern.search(user_agent) for pattern in patterns)


@cache
def _known() -> tuple[tuple[str, ...], list[re.Pattern[str]]]:
    """What a machine's name begins with, and what is found in it. Read when first asked for: 0.3 s."""
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA

    begins: list[str] = []
    tree: _Tree = {}
    odd: list[str] = []
    for entry in CRAWLER_USER_AGENTS_DATA:
        pattern: str = entry["pattern"]
        if pattern in _OF_APPS:
            continue
        if not _PLAIN.fullmatch(pattern):
            odd.append(pattern)
        elif pattern.startswith("^"):
            begins += _texts(pattern[1:])
        else:
            for text in _texts(pattern):
                _plant(tree, text)
    # Apart from each other, those that begin with plain text are found as fast as text is.
    return tuple(begins), [re.compile(pattern) for pattern in (_regex(tree), *odd)]


def _texts(pattern: str) -> Iterable[str]:
    """The texts that a plain pattern stands for: two for each set of two letters in it."""
    texts = [""]
    for escaped, letters, plain in _PIECE.findall(pattern):
        texts = [text + letter for text in texts for letter in escaped or letters or plain]
    return texts


def _plant(tree: _Tree, text: str) -> None:
    for letter in text:
        tree = tree.setdefault(letter, {})
    tree[""] = {}


def _regex(tree: _Tree) -> str:
    """What finds any text of the tree; a text that another begins with is all that is looked for."""
    if "" in tree:
        return ""
    return "(?:" + "|".join(_branches(tree)) + ")"


def _branches(tree: _Tree) -> Iterator[str]:
    for letter, rest in tree.items():
        yield re.escape(letter) + _regex(rest)
