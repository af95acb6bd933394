"""Rules of segments on their compacted topic: publishing them, and reading back what is in force."""

from __future__ import annotations

from schemas.topics import SEGMENT_RULES
from streams.adapters.kafka.everywhere import InForce, publish_everywhere, read_everywhere
from streams.adapters.segments import RULES_RECORD, decode_rules_record, encode_rules_record
from streams.domain.segment_rules import RuleSet
from streams.settings import Settings


def publish_rules(settings: Settings, rules: RuleSet) -> int:
    """Send the rules to every partition; returns how many those are. Raises AdminError."""
    return publish_everywhere(settings, SEGMENT_RULES, [(RULES_RECORD, encode_rules_record(rules))])


def published_rules(settings: Settings) -> InForce[RuleSet]:
    """All that the topic holds: one rule set, or none. Raises AdminError."""
    return read_everywhere(settings, SEGMENT_RULES, decode_rules_record)
