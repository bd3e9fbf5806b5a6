"""What a cell returns is displayed with a picture in a shell of IPython, and its words stay as they were."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell

from tdpkit import glance
from tdpkit.lab.guest import Guest
from tdpkit.lab.layouts import TD_4LEVEL
from tdpkit.lab.td import Td
from tdpkit.show.boundary import BoundaryPicture
from tests.oracles.svgs import tree


@pytest.fixture(scope="module")
def shell():
    shell = InteractiveShell()
    glance.register(shell)
    return shell


def displayed(shell, shown) -> dict[str, str]:
    bundle, metadata = shell.display_formatter.format(shown)
    assert metadata == {}
    return bundle


@pytest.mark.parametrize(
    "made",
    [
        lambda: Guest("eight", "plain"),
        lambda: Guest("toy", "TD").look(5, 12),
        lambda: Guest("toy", "TD").split(5, 12),
        lambda: Guest("eight", "TD").zap(3, 4),
        lambda: Guest("eight", "TD").touch(5),
        lambda: Guest("eight", "TD").accept(5),
        pytest.param(lambda: Guest("16T", "TD"), marks=pytest.mark.slow),
        lambda: BoundaryPicture(Guest("toy", "TD"), 5, 12, "zap"),
    ],
)
def test_it_has_a_picture_and_the_text_that_print_shows(shell, made):
    shown = made()
    bundle = displayed(shell, shown)
    assert sorted(bundle) == ["image/svg+xml", "text/plain"]
    assert bundle["text/plain"] == repr(shown)
    tree(bundle["image/svg+xml"])


def test_a_td_says_its_bytes_too(shell):
    td = Td(frames=32)
    bundle = displayed(shell, td)
    assert bundle["text/plain"] == f"TD of 128K: 32 frames accepted; bytes {td.bytes_in_sight()}"
    assert "image/svg+xml" in bundle


@pytest.mark.slow
def test_where_nothing_can_be_drawn_the_text_stays(shell):
    changed = Guest("16T", "TD")
    for shown in (changed.zap(1, 2), changed, Td(TD_4LEVEL, frames=512), Guest("mixed", "TD").touch(0)):
        assert displayed(shell, shown) == {"text/plain": repr(shown)}


def test_in_a_list_it_is_text(shell):
    guest = Guest("eight", "TD")
    assert displayed(shell, [guest.touch(0)]) == {"text/plain": "[frame 0: mapped, reads 10]"}


def test_each_class_that_is_promised_a_picture_exists():
    """They are named by text: a class that moved would lose its picture and nobody would notice."""
    for module, name in glance.SHOWN:
        assert isinstance(getattr(__import__(module, fromlist=[name]), name), type)
