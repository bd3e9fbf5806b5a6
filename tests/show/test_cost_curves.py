"""The cost curves: what is drawn is what was counted, in the same bytes each time."""

import re
from xml.etree import ElementTree

import pytest

from tdpkit.engine.gfn import InvalidValueError, parse_gfn
from tdpkit.lab.cost_curves import MAPS, SIZES, cost_curves
from tdpkit.lab.strategies import CONTENDERS
from tdpkit.show.cost_curves import CostCurves
from tdpkit.show.theme import DARK, LIGHT, contrast
from tests.oracles.svgs import ROOT, SVG, darkened, printed_whatever_the_hash_seed


@pytest.fixture(scope="module")
def curves():
    return CostCurves()


@pytest.mark.slow
def test_there_is_a_line_for_the_zap_and_each_contender_in_each_panel(curves):
    figure = curves.figure()
    for axes, (name, counted) in zip(figure.axes, curves.curves.items(), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        assert [tuple(map(int, lines["the zap that follows"].get_ydata()))] == [counted.zap]
        for contender, strategy in CONTENDERS.items():
            label = strategy.curve.label
            assert tuple(map(int, lines[f"split: {label}"].get_xdata())) == SIZES
            assert tuple(map(int, lines[f"split: {label}"].get_ydata())) == counted.split[contender]
        assert counted == cost_curves(name)
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        low, high = axes.get_ylim()
        assert low < min(counted.zap) <= max(counted.zap) < high
        assert name in axes.get_title(loc="left")


def test_the_mark_is_where_v3_is_overtaken(curves):
    axes = curves.figure().axes[list(MAPS).index("2M leaves")]
    [mark] = [line for line in axes.lines if line.get_marker() == "o"]
    assert list(mark.get_xdata()) == [parse_gfn("8M")]
    assert [text.get_text() for text in axes.texts] == ["v3 visits more from 8M on"]


def test_lines_are_told_apart_without_colour(curves):
    looks = [
        (line.get_linestyle(), line.get_linewidth())
        for line in curves.figure().axes[0].lines
        if line.get_marker() != "o"
    ]
    named = dict(zip(["zap", *CONTENDERS], looks, strict=True))
    assert len({named["two_calls"], named["kai_two_step"], named["walk_v3"], named["zap"]}) == 4
    # The two full lines end at opposite ends of the picture, where the mark tells which is which.
    assert named["walk_v3"] == named["one_block_per_edge"]


@pytest.mark.parametrize("role", ["bad", "shared", "private", "good"])
def test_every_line_stands_out_from_the_paper(role):
    assert contrast(LIGHT[role], LIGHT["paper"]) >= 4.5
    assert contrast(DARK[role], DARK["paper"]) >= 4.5


def test_the_picture_scales_and_is_read_out(curves):
    svg = ElementTree.fromstring(curves.svg())
    assert svg.tag == f"{SVG}svg"
    assert svg.get("width") == "100%"
    assert svg.get("height") is None
    assert re.fullmatch(r"0 0 [\d.]+ [\d.]+", svg.get("viewBox"))
    assert [part.tag for part in svg][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert svg.find(f"{SVG}desc").text == repr(curves)
    words = [text.text for text in svg.iter(f"{SVG}text")]
    assert "mapped by 2M leaves" in words, "text stays text"


def test_on_a_dark_page_it_has_the_colours_of_the_dark_theme(curves):
    dark = set(re.findall("#[0-9a-f]{6}", darkened(curves._repr_mimebundle_()["image/svg+xml"])))
    assert dark <= set(DARK.values())
    assert {DARK[role] for role in ("paper", "ink", "muted", "line", "grid")} < dark


def test_it_holds_no_date_no_address_and_no_program():
    svg = CostCurves(["nothing"]).svg()
    assert re.search(r"\d{4}-\d\d-\d\d|matplotlib v|<script", svg) is None
    assert set(re.findall(r'https?://[^"\s]*', svg)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_the_text_says_the_last_point_of_each_line(curves):
    rows = (
        ("nothing mapped", "25", "2", "4", "2", "25", "1T"),
        ("mapped by 1G leaves", "12 837", "527", "20", "16", "13 339", "8M"),
        ("mapped by 2M leaves", "6 303 777", "523", "16", "12", "6 304 283", "8M"),
        ("mapped by 4K leaves", "6 303 771", "517", "10", "6", "3 227 529 243", "8M"),
    )
    said = (
        "{}, 12T: v3 walk {}, two calls to the 1G ends {}, head and tail, both blocks {}, one block per edge "
        "{}; the zap visits {}; v3 visits more than one block per edge from {} on"
    )
    assert repr(curves).splitlines() == [said.format(*row) for row in rows]


@pytest.mark.slow
def test_it_is_the_same_in_every_run():
    code = (
        "import hashlib, json\nfrom tdpkit.show.cost_curves import CostCurves\n"
        "bundle = CostCurves()._repr_mimebundle_()\n"
        "print(json.dumps([hashlib.sha256(text.encode()).hexdigest() for text in bundle.values()]))"
    )
    assert len(printed_whatever_the_hash_seed(code)) == 2
    assert ROOT.name


@pytest.mark.slow
def test_one_panel_is_drawn_alone_and_an_unknown_one_not_at_all():
    assert len(CostCurves(["2M leaves"]).figure().axes) == 1
    assert len(CostCurves(["2M leaves", "nothing"]).figure().axes) == 2
    assert len(CostCurves(["2M leaves", "nothing", "4K leaves"]).figure().axes) == 3
    with pytest.raises(InvalidValueError, match="is none"):
        CostCurves(["2M leaves", "3M leaves"])
