"""What every picture of the kit is held to: form, ids, its place, its two themes, room for its words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
from matplotlib.ft2font import FT2Font, LoadFlags

from tdpkit.show.theme import DARK, LIGHT

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
NUMBERS = (
    "x",
    "y",
    "width",
    "height",
    "d",
    "viewBox",
    "font-size",
    "stroke-width",
    "points",
    "cx",
    "cy",
    "r",
)
WHOLE = re.compile(r"(?:[MLHVZ ,]|-?\d+(?![.\de]))*")


def tree(svg: str) -> ElementTree.Element:
    """The picture, in which each part of a text that has a place of its own is a text of its own."""
    picture = ElementTree.fromstring(svg)
    for group in [*picture.iter()]:
        group[:] = [one for part in group for one in (_parts(part) if part.tag == f"{SVG}text" else [part])]
    return picture


def _parts(text: ElementTree.Element) -> list[ElementTree.Element]:
    parts = []
    for part in text:
        assert (part.tag, part.tail, text.text) == (f"{SVG}tspan", None, None), "words without a place"
        one = ElementTree.Element(text.tag, {**text.attrib, **part.attrib})
        one.text = part.text
        parts.append(one)
    return parts or [text]


def drawn(svg: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    """Elements that are drawn at their own place: those of patterns are tiles."""
    tiles = {id(part) for pattern in svg.iter(f"{SVG}pattern") for part in pattern}
    return [part for part in svg.iter(f"{SVG}{tag}") if id(part) not in tiles]


def texts(svg: ElementTree.Element) -> list[str]:
    return [text.text for text in svg.iter(f"{SVG}text") if text.text]


def written(svg: ElementTree.Element, words: str) -> list[ElementTree.Element]:
    """The texts that say `words`."""
    return [text for text in svg.iter(f"{SVG}text") if text.text == words]


def beside(svg: ElementTree.Element, name: ElementTree.Element) -> ElementTree.Element:
    """The swatch of a legend that stands left of `name`."""
    x, y = int(name.get("x")) - 22, int(name.get("y")) - 11
    [swatch] = [rect for rect in drawn(svg, "rect") if (rect.get("x"), rect.get("y")) == (f"{x}", f"{y}")]
    return swatch


@cache
def advance(letter: str, bold: bool, mono: bool) -> float:
    """The width of a letter by its size, read from DejaVu, which is what Chromium on Debian takes."""
    name = f"DejaVuSans{'Mono' * mono}{'-Bold' * bold}.ttf"
    font = FT2Font(f"{matplotlib.get_data_path()}/fonts/ttf/{name}")
    font.set_size(100, 72)
    return font.load_char(ord(letter), LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / 100


def extent(text: ElementTree.Element) -> tuple[float, float]:
    """Where a text begins and ends."""
    size, bold, words = int(text.get("font-size")), int(text.get("font-weight")) >= 600, text.text or ""
    mono = "mono" in text.get("font-family")
    width, x = size * sum(advance(letter, bold, mono) for letter in words), int(text.get("x"))
    left = {"start": x, "middle": x - width / 2, "end": x - width}[text.get("text-anchor")]
    return left, left + width


# ---- what holds for each -------------------------------------------------------------------------------


def check_all(svg: str, case: object = None, *, headed: bool = True) -> None:
    """All that can be said of any one picture; a low strip has a caption for its head (`headed` False)."""
    picture = tree(svg)
    title, description = (picture.find(f"{SVG}{tag}").text for tag in ("title", "desc"))
    check_form(picture, title, description)
    (check_head if headed else check_caption)(picture)
    check_whole_numbers(picture)
    check_inside(picture, case)
    check_alone(svg)
    check_texts_apart(picture, case)
    check_lines_apart(picture, case)


def check_head(svg: ElementTree.Element) -> None:
    """It begins with its title, and below it with the answer, which is also what is read out."""
    first, *others = svg.iter(f"{SVG}text")
    assert (first.text, first.get("x"), first.get("y")) == (svg.find(f"{SVG}title").text, "24", "32")
    answer = svg.find(f"{SVG}desc").text.split()
    for line, text in enumerate(others):
        assert (text.get("x"), text.get("y")) == ("24", f"{56 + 18 * line}")
        words = text.text.split()
        assert answer[: len(words)] == words
        answer = answer[len(words) :]
        if not answer:
            break
    assert answer == []


def check_caption(svg: ElementTree.Element) -> None:
    """It begins with its title, on one line, or with as much of it as there is room for."""
    first = next(svg.iter(f"{SVG}text"))
    title = svg.find(f"{SVG}title").text
    assert (first.get("x"), first.get("y")) == ("24", "17")
    assert first.text == title or title.startswith(first.text.removesuffix("…"))
    assert svg.find(f"{SVG}desc").text.startswith(title)


def check_form(svg: ElementTree.Element, title: str, description: str) -> None:
    """It scales with its container, and is read out as an image."""
    assert svg.tag == f"{SVG}svg"
    assert re.fullmatch(r"0 0 \d+ \d+", svg.get("viewBox"))
    assert svg.get("width") == "100%"
    assert svg.get("height") is None, "its height follows from the viewBox"
    assert svg.get("role") == "img"
    found = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert svg.get("aria-labelledby").split() == [part.get("id") for part in found]
    assert [part.text for part in found] == [title, description]
    written = list(svg.iter(f"{SVG}text"))
    assert written
    assert [text.text for text in written if "white-space:pre" not in text.get("style")] == []


def check_whole_numbers(svg: ElementTree.Element) -> None:
    for part in svg.iter():
        for name in set(NUMBERS) & set(part.keys()):
            if part is not svg or name != "width":
                assert WHOLE.fullmatch(part.get(name)), f"{part.tag} {name}={part.get(name)}"


def check_inside(svg: ElementTree.Element, case: object = None) -> None:
    """Nothing is drawn outside the picture."""
    width, height = map(int, svg.get("viewBox").split()[2:])
    for rect in drawn(svg, "rect"):
        x, y = int(rect.get("x", 0)), int(rect.get("y", 0))
        w, h = int(rect.get("width")), int(rect.get("height"))
        assert 0 <= x < x + w <= width, (case, ElementTree.tostring(rect))
        assert 0 <= y < y + h <= height, (case, ElementTree.tostring(rect))
    for path in drawn(svg, "path"):
        for command, numbers in re.findall(r"([MLHV])([-\d ]+)", path.get("d")):
            at = [int(number) for number in numbers.split()]
            limits = {"H": [width], "V": [height]}.get(command, [width, height])
            assert len(at) == len(limits)
            assert all(0 <= x <= most for x, most in zip(at, limits, strict=True)), (case, path.get("d"))
    for disc in drawn(svg, "circle"):
        x, y, r = (int(disc.get(name)) for name in ("cx", "cy", "r"))
        assert r <= x <= width - r, case
        assert r <= y <= height - r, case
    for text in svg.iter(f"{SVG}text"):
        assert 0 < int(text.get("y")) <= height
        left, right = extent(text)
        assert 0 <= left <= right <= width, (case, text.text, round(left), round(right))


def check_ids(svg: str, prefix: str) -> None:
    """Ids carry their prefix, are unique, and every reference resolves; no pattern is left unused."""
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert len(ids) == len(set(ids)) >= 2
    assert [name for name in ids if not name.startswith(f"{prefix}-")] == []
    used = set(re.findall(r"url\(#([^)]*)\)", svg))
    assert used <= set(ids)
    assert set(re.findall(r'aria-labelledby="([^"]*)"', svg)[0].split()) <= set(ids)
    assert set(re.findall(r'<pattern id="([^"]*)"', svg)) == used


def check_alone(svg: str) -> None:
    """It loads nothing and styles nothing around it."""
    assert re.findall(r"<(style|script|image|use|foreignObject|a)\b| on\w+=|href|@import", svg) == []
    assert re.findall(r"https?:[^\"]*", svg) == ["http://www.w3.org/2000/svg"]


def check_themes(light: str, dark: str, live: str) -> None:
    """The three differ in colours alone, and those are the palettes' own."""
    assert light != dark
    colour = re.compile("#[0-9a-f]{6}")
    assert colour.sub("#", light) == colour.sub("#", dark)
    assert set(colour.findall(light)) <= set(LIGHT.values())
    assert set(colour.findall(dark)) <= set(DARK.values())
    assert re.sub(r"var\(--tdp-[a-z0-9-]+, (#[0-9a-f]{6})\)", r"\1", live) == light


_RULE = re.compile(r'svg:root \[(?:(\w+)="|style\*="(\w+): )(#\w{6})"\]\{(\w+):(#\w{6})(?:!important)?\}')


def darkened(still: str) -> str:
    """A still as a dark page shows it: each rule of its style sheet taken by hand, and the sheet left out."""
    body, sheet = re.fullmatch(
        r"(.*)<style>@media \(prefers-color-scheme:dark\)\{(.*)\}</style></svg>", still, re.DOTALL
    ).groups()
    rules = {}
    for attribute, in_style, light, name, dark in _RULE.findall(sheet):
        assert name in (attribute, in_style)
        rules[f'{name}="{light}' if attribute else f"{name}: {light}"] = dark
    assert _RULE.sub("", sheet) == ""
    for found, dark in rules.items():
        assert found in body, "a rule without use"
        body = body.replace(found, f"{found[:-7]}{dark}")
    return f"{body}</svg>"


def check_texts_apart(svg: ElementTree.Element, case: object = None) -> None:
    """No two texts of a line run into each other."""
    lines: dict[str, list[ElementTree.Element]] = {}
    for text in svg.iter(f"{SVG}text"):
        lines.setdefault(text.get("y"), []).append(text)
    for line in lines.values():
        for one, after in pairwise(sorted(line, key=extent)):
            assert extent(one)[1] <= extent(after)[0], (case, one.text, after.text)


def check_lines_apart(svg: ElementTree.Element, case: object = None) -> None:
    """No text runs into one on another line: their heights are those of their letters."""
    boxes = []
    for text in svg.iter(f"{SVG}text"):
        y, size = int(text.get("y")), int(text.get("font-size"))
        if text.text:
            boxes.append((*extent(text), y - 0.75 * size, y + 0.2 * size, text.text))
    for at, (left, right, top, bottom, one) in enumerate(boxes):
        for low, high, above, below, other in boxes[at + 1 :]:
            apart = right <= low or high <= left or bottom <= above or below <= top
            assert apart, (case, one, other)


def ids_of(svgs: Iterable[str]) -> list[set[str]]:
    return [set(re.findall(r'\bid="([^"]*)"', svg)) for svg in svgs]


# ---- the same in every run -----------------------------------------------------------------------------


def printed_whatever_the_hash_seed(code: str) -> list:
    """The JSON that `code` prints, which must be the same whatever the order of sets and dicts of strings."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "4242")
    ]
    printed = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert printed[0] == printed[1]
    return json.loads(printed[0])
