"""Reads the part of YAML that configs need: maps, lists, text, numbers, true, false and null.

A config may come from anywhere. What makes few bytes large or makes objects is refused: anchors,
tags, dates, deep nesting, long numbers. So is what most likely is a mistake: a key that comes
twice, a key that is no text, a second document.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml import events

from metarl.errors import UserError
from metarl.text import printable, shown

DEPTH = 20
"""Levels of nesting."""
VALUES = 2000
"""Keys and values of a document; a whole config has some 100."""
DIGITS = 20
"""Characters of a whole number; 64 bits have 19 digits."""
LONGEST = 4096
"""Characters of a text, as many as a path may have."""
TAG = "tag:yaml.org,2002:"


def parsed(text: str, place: str) -> Any:
    """Returns the document in a YAML text; None for an empty one.

    Raises:
        UserError: for anything else; it names the place and the line.
    """
    try:
        return _Reader(text, place).document()
    except yaml.YAMLError as error:
        raise UserError(f"{place} is no YAML: {_one_line(error)}") from None


class _Reader:
    """Builds values from the events of PyYAML's parser, which neither recurses nor expands."""

    def __init__(self, text: str, place: str):
        self.place, self.left = place, VALUES
        self.loader = yaml.SafeLoader(text)

    def document(self) -> Any:
        next_event = self.loader.get_event
        next_event()  # the stream's start
        if isinstance(next_event(), events.StreamEndEvent):
            return None
        value = self.value(next_event(), DEPTH)
        next_event()  # the document's end
        if not isinstance(event := next_event(), events.StreamEndEvent):
            raise self.refused(event, "a second document begins here; give one")
        return value

    def value(self, event: Any, left: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.refused(event, f"more than {VALUES:,} values; no config has so many")
        if getattr(event, "anchor", None) is not None:  # also of an alias
            raise self.refused(event, "anchors and aliases are not read; write the value out")
        if getattr(event, "tag", None) is not None:
            raise self.refused(event, f"the tag {shown(event.tag)} is not read; leave it out")
        if isinstance(event, events.ScalarEvent):
            return self.scalar(event)
        if not left:
            raise self.refused(event, f"nested deeper than {DEPTH} levels; no config is")
        if isinstance(event, events.SequenceStartEvent):
            return self.items(left - 1)
        return self.mapping(left - 1)

    def items(self, left: int) -> list[Any]:
        found = []
        while not isinstance(event := self.loader.get_event(), events.SequenceEndEvent):
            found.append(self.value(event, left))
        return found

    def mapping(self, left: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := self.loader.get_event(), events.MappingEndEvent):
            if not isinstance(event, events.ScalarEvent):
                raise self.refused(event, "a key is a list or a map; keys are text")
            key = self.value(event, left)
            if not isinstance(key, str):
                raise self.refused(event, f"the key {shown(event.value)} is no text; quote it")
            if key in found:
                raise self.refused(event, f"the key {shown(key)} comes twice; give it once")
            found[key] = self.value(self.loader.get_event(), left)
        return found

    def scalar(self, event: Any) -> Any:
        text = event.value
        if len(text) > LONGEST:
            raise self.refused(event, f"a text of {len(text):,} characters; the most is {LONGEST}")
        # A plain word may be a number; `resolve` decides as yaml.safe_load does.
        kind = self.loader.resolve(yaml.ScalarNode, text, event.implicit).removeprefix(TAG)
        if kind == "str":
            return text
        what = {
            "timestamp": f"{shown(text)} is a date; in quotes it is text",
            "merge": "merging by << is not read; write the keys out",
        }
        if kind in what:
            raise self.refused(event, what[kind])
        if kind == "int" and len(text) > DIGITS:
            raise self.refused(event, f"a whole number of {len(text):,} characters is too large")
        node = yaml.ScalarNode(TAG + kind, text)
        try:
            return self.loader.yaml_constructors[node.tag](self.loader, node)
        except (yaml.YAMLError, ValueError, KeyError, OverflowError):  # such as 0x_, and =
            raise self.refused(event, f"{shown(text)} has no value; in quotes it is text") from None

    def refused(self, event: Any, why: str) -> UserError:
        return UserError(f"{self.place}, line {event.start_mark.line + 1}: {why}")


def _one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:160]
