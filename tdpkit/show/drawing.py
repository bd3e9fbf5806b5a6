"""SVG by string: integer coordinates, runs instead of single entries, ids unique per picture.

A :class:`Drawing` collects shapes in the colours of one palette. Every text keeps its spaces; the picture
scales with its container (viewBox, width 100 %) and carries its own paper. All pictures are of one width and
begin alike: a title, and below it the answer in as many lines as it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import NamedTuple
from zlib import crc32

from tdpkit.lab.words import words_of

from .theme import TURNS, Palette

WIDTH, LEFT, RIGHT = 1000, 24, 976
"""Units of every picture: JupyterLab's cell is about 1000 px wide beside the file browser at 1400 px."""
LINE = 18
"""From one line of text to the next: 13 units of text and a little air."""

_SANS = "system-ui,Segoe UI,Helvetica,Arial,sans-serif"
_MONO_FONT = "ui-monospace,Menlo,Consolas,monospace"

HATCHED = {
    "crossing": ("M0 0 H3 V6 H0 Z", 45),  # broad stripes, as on a barrier
    "split": ("M0 0 H1 V6 H0 Z", 0),  # upright lines, like the borders of many leaves
    "zapped": ("M0 0 H6 V1 H0 Z M0 0 H1 V6 H0 Z", 45),  # crossed out
    "lost": ("M0 0 H2 V6 H0 Z", -45),  # stripes the other way: crossing before, lost after
    "refaulted": ("M1 1 H4 V4 H1 Z", 0),  # dots: single frames come back
    "unknown": ("M0 0 H1 V6 H0 Z", 45),  # thin lines aslant: no data, as on a map
    "pending": ("M2 2 H4 V4 H2 Z", 45),  # small dots: not quite there
    "blocked": ("M0 0 H6 V2 H0 Z", 0),  # bars across
    "pending-blocked": ("M0 0 H6 V2 H0 Z M2 3 H4 V5 H2 Z", 0),  # bars, and dots between them
}
"""Kinds with a hatch: its marks in a cell of 6 by 6, and the angle the cell is turned by."""

_ADVANCES = (
    "32 40 46 84 64 95 78 28 39 39 50 84 32 36 32 34 64 64 64 64 64 64 64 64 64 64 34 34 84 84 84 53 "
    "100 69 69 70 77 63 58 78 75 30 30 66 56 86 75 79 60 79 70 64 61 73 69 99 69 61 69 39 34 39 84 50 "
    "50 61 64 55 64 62 35 64 63 28 28 58 28 98 63 61 64 64 41 52 39 63 59 82 59 59 53 64 34 64 84",
    "35 46 52 84 70 100 87 31 46 46 52 84 38 42 38 37 70 70 70 70 70 70 70 70 70 70 40 40 84 84 84 58 "
    "100 77 76 73 83 68 68 82 84 37 37 78 64 100 84 85 73 85 77 72 68 81 77 110 77 73 73 46 37 46 84 50 "
    "50 68 72 59 72 68 44 72 71 34 34 67 34 104 71 69 72 72 49 60 48 71 65 92 65 65 58 71 37 71 84",
)
"""Widths of the letters from space to ~ in hundredths of their size, regular and bold: those of DejaVu Sans,
which is what Debian has for system-ui and wider than other systems' fonts."""
_EMS = tuple({chr(32 + at): int(width) for at, width in enumerate(row.split())} for row in _ADVANCES)
_MONO_EMS = 61
_OTHER = 100
"""Arrows, ticks and signs beyond ASCII: the widest of those that occur is the ellipsis."""


def text_width(content: str, size: int = 12, *, weight: int = 400, mono: bool = False) -> int:
    """Units that `content` takes at most, rounded up, in the widest font that a system is known to use."""
    if mono:
        return -(-_MONO_EMS * len(content) * size // 100)
    ems = _EMS[weight >= 600]
    return -(-sum(ems.get(letter, _OTHER) for letter in content) * size // 100)


def wrap(
    content: str, width: int = RIGHT - LEFT, size: int = 13, *, weight: int = 600, mono: bool = False
) -> list[str]:
    """`content` in lines of at most `width` units, broken between words (see
    :func:`~tdpkit.lab.words.words_of`); a longer word has a line of its own.
    """

    def lines() -> Iterator[str]:
        line = ""
        for word in words_of(content):
            longer = f"{line} {word}" if line else word
            if line and text_width(longer, size, weight=weight, mono=mono) > width:
                yield line
                line = word
            else:
                line = longer
        if line:
            yield line

    return [*lines()]


def shorten(content: str, room: int, size: int = 12, *, weight: int = 400) -> str:
    """`content`, or its beginning and "…" if it takes more than `room`."""
    if text_width(content, size, weight=weight) <= room:
        return content
    at = len(content)
    while at > 1 and text_width(f"{content[:at]}…", size, weight=weight) > room:
        at -= 1
    return f"{content[:at]}…"


def box(low: int, top: int, high: int, bottom: int) -> str:
    """The path around a box, for an outline or a fill of its own."""
    return f"M{low} {top} H{high} V{bottom} H{low} Z"


def diamond(x: int, y: int, reach: int = 5) -> str:
    """The path of a diamond around (x, y): a split, wherever it occurs."""
    return f"M{x} {y - reach} L{x + reach} {y} L{x} {y + reach} L{x - reach} {y} Z"


def cross(x: int, y: int, reach: int = 4) -> str:
    """The path of a cross around (x, y), to be stroked."""
    return (
        f"M{x - reach} {y - reach} L{x + reach} {y + reach} M{x + reach} {y - reach} L{x - reach} {y + reach}"
    )


def tick(x: int, y: int) -> str:
    """The path of a tick around (x, y), to be stroked."""
    return f"M{x - 4} {y} L{x - 1} {y + 3} L{x + 4} {y - 4}"


def pointer(x: int, y: int, half: int = 6) -> str:
    """The path of a triangle below (x, y) that points up at it: the place where something is now."""
    return f"M{x} {y} L{x - half} {y + 9} H{x + half} Z"


_TITLE_SIZES = (18, 16, 14)
"""The first for all titles but those that name two long addresses."""
_OWN_IDS = "\0"
"""Stands for the prefix of a picture's ids until all of it is drawn; no text can hold it."""


class Counter(NamedTuple):
    """A number with what it counts; `mark` is a kind of cell whose swatch stands before it."""

    value: str
    caption: str
    role: str = "ink"
    mark: str = ""


class Key(NamedTuple):
    """An entry of a legend: `draw` takes the left end and the baseline of a mark `width` wide."""

    draw: Callable[[int, int], None]
    width: int
    name: str


class Track(NamedTuple):
    """A stretch of a picture along which something is dragged: where its values lie, and where it is drawn.

    name: says what is dragged (see tdpkit.show.exhibit.Exhibit.tracks). knots: (value, x) in order; between
    two knots values lie evenly. top, bottom: y of the stretch that takes the pointer. keyed: it can be
    reached by key as well; of several tracks of one name the first is.
    """

    name: str
    knots: tuple[tuple[int, int], ...]
    top: int
    bottom: int
    keyed: bool = True


class Spot(NamedTuple):
    """A box of a picture that can be pressed.

    name: says what pressing it does (see tdpkit.show.exhibit.Exhibit.pressed). label: read to those who do
    not see it. chosen: pressed or not, for what is chosen by it; None for what only acts.
    """

    name: str
    label: str
    left: int
    top: int
    right: int
    bottom: int
    chosen: bool | None = None


class Picture(str):
    """A picture as an SVG string; and what a live exhibit needs besides.

    heading, answer, role: the picture's head, `role` the answer's colour. body: the picture without its head,
    which the page shows as text that wraps. view: left, top, width and height of the body, in units.
    smallest: the size of its smallest text, in units. tracks, spots: what of it can be dragged and pressed.
    """

    heading: str
    answer: str
    role: str
    body: str
    view: tuple[int, int, int, int]
    smallest: int
    tracks: tuple[Track, ...]
    spots: tuple[Spot, ...]


_BELOW_HEAD = 8
"""Of the room between the head's last line and the picture, so much belongs to the head."""


class Drawing:
    """One picture: `width` by `height` units; `ids` prefixes every id in it (unique per instance).

    A picture that learns its height while it is drawn sets `height` before it calls :meth:`svg`.
    Without `ids` they follow from what is drawn, after `prefix`: different pictures on one page share none,
    and the two themes of one picture have the same.
    """

    def __init__(self, width: int, height: int, palette: Palette, ids: str = "", prefix: str = "x") -> None:
        self.width = width
        self.height = height
        self.palette = palette
        self.ids = ids or _OWN_IDS
        self.prefix = prefix
        self.parts: list[str] = []
        self.tracks: list[Track] = []
        self.spots: list[Spot] = []
        self.filled: set[str] = set()
        """Kinds of frames that were drawn; a legend names no others."""
        self._head = ("", "", "ink")
        self._head_parts = 0
        self._head_ends = 0
        self._smallest = LINE
        self._drawn = 0

    def headed(self, title: str, answer: str, role: str = "ink", lines: int = 1) -> int:
        """Draw the title and, in the colour of `role`, the answer; the y of the last line of it.

        It comes first of all that is drawn. lines: so many of the answer have room in any case.
        """
        fitting = (size for size in _TITLE_SIZES if text_width(title, size, weight=700) <= RIGHT - LEFT)
        self.text(LEFT, 32, title, size=next(fitting, _TITLE_SIZES[-1]), weight=700)
        y = 56
        for number, text in enumerate(wrap(answer)):
            y = 56 + LINE * number
            self.text(LEFT, y, text, role, size=13, weight=600)
        y = max(y, 56 + LINE * (lines - 1))
        self._head, self._head_parts, self._head_ends = (title, answer, role), len(self.parts), y
        return y

    def track(self, track: Track) -> None:
        """Let something be dragged along a stretch of the picture."""
        self.tracks.append(track)

    def spot(self, spot: Spot) -> None:
        """Let a box of the picture be pressed."""
        self.spots.append(spot)

    def _saw(self, *what: object) -> None:
        self._drawn = crc32(repr(what).encode(), self._drawn)

    def fill(self, kind: str) -> str:
        """The fill of a kind of frame: its hatch where it has one, else its colour."""
        self.filled.add(kind)
        if kind in HATCHED:
            return f"url(#{self.ids}-{kind})"
        return self.palette.get(kind, self.palette["leaf3"])  # a toy's leaves may be larger than any on x86

    def rect(self, x: int, y: int, width: int, height: int, fill: str, stroke: str = "") -> None:
        """A box; `fill` is a CSS value (see :meth:`fill`), `stroke` a role."""
        self._saw(x, y, width, height, stroke, fill if fill.startswith("url") else "")
        line = f' stroke="{self.palette[stroke]}"' if stroke else ""
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"{line}/>')

    def path(
        self,
        d: str,
        stroke: str = "",
        *,
        fill: str = "none",
        width: int = 1,
        opacity: str = "",
        dash: str = "",
    ) -> None:
        """A path; `stroke` and `fill` are roles (or "none"), `dash` lengths drawn and left out in turn.

        Nothing is drawn for an empty one.
        """
        if not d:
            return
        self._saw(d, stroke, fill)
        attributes = f' fill="{self.palette.get(fill, fill)}"'
        if stroke:
            attributes += f' stroke="{self.palette[stroke]}" stroke-width="{width}"'
        if opacity:
            attributes += f' fill-opacity="{opacity}"'
        if dash:
            attributes += f' stroke-dasharray="{dash}"'
        self.parts.append(f'<path d="{d}"{attributes}/>')

    def circle(self, x: int, y: int, radius: int, fill: str, stroke: str = "") -> None:
        """A disc around (x, y); `fill` and `stroke` are roles."""
        self._saw(x, y, radius, fill, stroke)
        line = f' stroke="{self.palette[stroke]}"' if stroke else ""
        self.parts.append(f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{self.palette[fill]}"{line}/>')

    def text(
        self,
        x: int,
        y: int,
        content: str,
        role: str = "ink",
        *,
        size: int = 12,
        anchor: str = "start",
        weight: int = 400,
        mono: bool = False,
    ) -> None:
        """A line of text in the colour of `role`; nothing for no text."""
        if not content:
            return
        self._saw(x, y, content, role)
        self._smallest = min(self._smallest, size)
        look = self._look(role, size, anchor, weight, mono)
        self.parts.append(f'<text x="{x}" y="{y}" {look}>{escape(content)}</text>')

    def texts(
        self,
        places: Iterable[tuple[int, int, str]],
        role: str = "ink",
        *,
        size: int = 12,
        anchor: str = "start",
        weight: int = 400,
        mono: bool = False,
    ) -> None:
        """Many short texts of one look, at (x, y, content): as :meth:`text`, at a tenth of the markup."""
        if places := [place for place in places if place[2]]:
            self._saw(places, role)
            self._smallest = min(self._smallest, size)
            each = "".join(f'<tspan x="{x}" y="{y}">{escape(content)}</tspan>' for x, y, content in places)
            self.parts.append(f"<text {self._look(role, size, anchor, weight, mono)}>{each}</text>")

    def _look(self, role: str, size: int, anchor: str, weight: int, mono: bool) -> str:
        """The attributes of a text but its place."""
        return (
            f'font-size="{size}" fill="{self.palette[role]}" text-anchor="{anchor}" '
            f'font-weight="{weight}" font-family="{_MONO_FONT if mono else _SANS}" style="white-space:pre"'
        )

    @contextmanager
    def turning(self, delay: int) -> Iterator[None]:
        """What is drawn meanwhile turns up, `delay` milliseconds late, on a page where it just changed."""
        self.parts.append(f'<g class="{TURNS}" style="animation-delay:{delay}ms">')
        yield
        self.parts.append("</g>")

    # ---- what pictures have in common --------------------------------------------------------------

    def label(
        self,
        x: int,
        y: int,
        content: str,
        role: str = "ink",
        *,
        left: int = LEFT,
        right: int = RIGHT,
        size: int = 12,
        weight: int = 400,
        mono: bool = False,
    ) -> None:
        """A text with its middle at `x`, or as near to it as `left` and `right` allow."""
        half = -(-text_width(content, size, weight=weight, mono=mono) // 2)
        x = min(max(x, left + half), right - half)
        self.text(x, y, content, role, size=size, anchor="middle", weight=weight, mono=mono)

    def plate(
        self, x: int, y: int, content: str, room: int, role: str = "ink", *, size: int = 12, weight: int = 400
    ) -> bool:
        """A text around (x, y) on paper, so that it can be read on any hatch; nothing without `room` for it.

        Says whether there was room.
        """
        width = text_width(content, size, weight=weight) + 8
        if not content or width > room:
            return False
        self.rect(x - width // 2, y - size // 2 - 3, width, size + 6, self.palette["paper"])
        self.text(x, y + 4, content, role, anchor="middle", size=size, weight=weight)
        return True

    def counters(self, y: int, counters: Sequence[Counter], left: int = LEFT, right: int = RIGHT) -> None:
        """Numbers with their captions below, in columns that stay where they are while the numbers change."""
        for number, (value, caption, role, mark) in enumerate(counters):
            x = left + (right - left) * number // len(counters)
            if mark:
                self.rect(x, y - 16, 18, 18, self.fill(mark), "line")
            self.text(x + 24 if mark else x, y, value, role, size=20, weight=700)
            marked = role != "ink"
            self.text(x, y + LINE, caption, role if marked else "muted", weight=600 if marked else 400)

    def pills(self, left: int, top: int, pills: Iterable[tuple[str, str]]) -> None:
        """(text, role) of what holds now, each in a frame 24 high; dashed for what does not hold."""
        for text, role in pills:
            width = text_width(text, weight=600) + 20
            dash = "4 3" if role in ("muted", "crossing-mark") else ""
            self.path(box(left, top, left + width, top + 24), role, dash=dash)
            self.text(left + width // 2, top + 16, text, role, anchor="middle", weight=600)
            left += width + 10

    def keys(self, y: int, keys: Iterable[Key], left: int = LEFT, right: int = RIGHT) -> int:
        """A legend: marks and their names, in as many lines as it takes; the y of the last of them."""
        x = left
        for draw, width, name in keys:
            wide = width + 6 + text_width(name)
            if x > left and x + wide > right:
                x, y = left, y + 22
            draw(x, y)
            self.text(x + width + 6, y, name, "muted")
            x += wide + 20
        return y

    def log(
        self,
        title: str,
        lines: Sequence[tuple[str, str]],
        now: int | None,
        left: int,
        right: int,
        top: int,
        rows: int,
    ) -> None:
        """Numbered lines in a frame with room for `rows` of them; the one with the index `now` is marked."""
        self.text(left, top - 8, title, weight=700)
        self.text(right, top - 8, "newest last", "muted", anchor="end")
        self.rect(left, top, right - left, rows * LINE + 10, self.palette["paper"], "grid")
        room = right - left - 46
        for at, (number, text) in enumerate(lines):
            y, marked = top + 18 + LINE * at, at == now
            if marked:
                self.rect(left + 1, y - 13, right - left - 2, LINE, self.palette["leaf1"])
                self.rect(left + 1, y - 13, 4, LINE, self.palette["ink"])
            weight = 700 if marked and text_width(text, weight=700) <= room else 400
            self.text(left + 38, y, number, "ink" if marked else "muted", anchor="end", mono=True)
            self.text(left + 44, y, shorten(text, room, weight=weight), weight=weight)

    def svg(self, title: str, description: str) -> Picture:
        """The whole picture; title and description are read to those who do not see it."""
        self._saw(self.width, self.height, title, description)
        ids = f"{self.prefix}-{self._drawn:08x}"
        top = self._head_ends and self._head_ends + _BELOW_HEAD
        view = (0, top, self.width, self.height - top)
        whole = self._markup(title, description, (0, 0, self.width, self.height), self.parts)
        picture = Picture(whole.replace(_OWN_IDS, ids))
        body = self._markup(title, description, view, self.parts[self._head_parts :])
        picture.body = body.replace(_OWN_IDS, ids)
        picture.heading, picture.answer, picture.role = self._head
        picture.view, picture.smallest = view, self._smallest
        picture.tracks, picture.spots = tuple(self.tracks), tuple(self.spots)
        return picture

    def _markup(
        self, title: str, description: str, view: tuple[int, int, int, int], parts: Sequence[str]
    ) -> str:
        left, top, width, height = view
        used = [kind for kind in HATCHED if any(f"url(#{self.ids}-{kind})" in part for part in parts)]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left} {top} {width} {height}" width="100%" '
            f'role="img" aria-labelledby="{self.ids}-title {self.ids}-desc">'
            f'<title id="{self.ids}-title">{escape(title)}</title>'
            f'<desc id="{self.ids}-desc">{escape(description)}</desc>'
            f"<defs>{''.join(map(self._hatch, used))}</defs>"
            f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="{self.palette["paper"]}"/>'
            f"{''.join(parts)}</svg>"
        )

    def _hatch(self, kind: str) -> str:
        marks, angle = HATCHED[kind]
        return (
            f'<pattern id="{self.ids}-{kind}" width="6" height="6" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate({angle})"><rect width="6" height="6" fill="{self.palette[kind]}"/>'
            f'<path d="{marks}" fill="{self.palette[f"{kind}-mark"]}"/></pattern>'
        )
