"""What every live exhibit's tests read of it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from tdpkit.show.exhibit import Exhibit


def status(markup: str) -> str:
    """A message as it is read: its markup must be well formed, and one span."""
    element = ElementTree.fromstring(markup)
    assert (element.tag, list(element)) == ("span", [])
    assert element.get("role") == "status", "it is announced when it changes"
    return element.text or ""


def words(exhibit: Exhibit) -> str:
    """The exhibit's message."""
    return status(exhibit.message.value)


def picture_of(exhibit: Exhibit) -> str:
    """The picture without the ids of its instance."""
    [prefix] = set(re.findall(r'<title id="([^"]*)-title">', exhibit.picture.value))
    return exhibit.picture.value.replace(prefix, "ids")
