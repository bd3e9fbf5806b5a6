"""A guess is no answer before it is made; made, it is compared; changed, the old answer goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from tdpkit.exercises.convert_zap_accept import check_lost, guess_lost
from tdpkit.exercises.guess import Guess
from tdpkit.exercises.two_roots import REACHED, check_plain_zap, guess_plain_zap
from tdpkit.server import LIVE_VIEW
from tdpkit.show.theme import LIVE_STYLE


def status(markup: str) -> str:
    """A message as it is read: its markup must be well formed, and one span."""
    element = ElementTree.fromstring(markup)
    assert (element.tag, list(element)) == ("span", [])
    assert element.get("role") == "status", "it is announced when it changes"
    return element.text or ""


BOTH = pytest.mark.parametrize("make", [guess_plain_zap, guess_lost])
RIGHT: dict[Callable[[], Guess], Any] = {guess_plain_zap: "the direct tree", guess_lost: 8}
WRONG: dict[Callable[[], Guess], Any] = {guess_plain_zap: "no tree", guess_lost: 3}
CHECKS: dict[Callable[[], Guess], Any] = {guess_plain_zap: check_plain_zap, guess_lost: check_lost}


@BOTH
def test_nothing_is_guessed_at_first(make: Callable[[], Guess]) -> None:
    guess = make()
    assert guess.value is ...
    assert repr(guess) == f"{guess.question} (not guessed yet)"
    assert status(guess.message.value) == ""


@BOTH
def test_it_is_displayed_live_and_then_in_words_for_where_it_cannot_live(
    make: Callable[[], Guess], monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: list[dict[str, Any]] = []
    monkeypatch.setattr("tdpkit.show.outputs.display", lambda data, raw: outputs.append(data))
    guess = make()
    guess._ipython_display_()
    assert [[*output] for output in outputs] == [[LIVE_VIEW], ["text/plain"]]
    assert outputs[1]["text/plain"] == repr(guess)
    assert LIVE_STYLE in [getattr(child, "value", "") for child in guess.box.children], "it hides the words"


@BOTH
def test_a_guess_is_compared_and_its_answer_goes_with_the_next_one(make: Callable[[], Guess]) -> None:
    guess = make()
    guess.control.value = WRONG[make]
    assert guess.value == WRONG[make]
    assert repr(guess).endswith(f"(you say {WRONG[make]})")
    guess.button.click()
    assert status(guess.message.value) == repr(CHECKS[make](WRONG[make]))
    assert status(guess.message.value).startswith("Not yet: ")
    guess.control.value = RIGHT[make]
    assert status(guess.message.value) == ""
    guess.compare()
    assert status(guess.message.value).startswith("Right: ")


@BOTH
def test_the_control_has_a_label_and_the_answer_is_announced(make: Callable[[], Guess]) -> None:
    guess = make()
    assert guess.control.description
    assert guess.button.description == "compare"
    assert 'role="status"' in guess.message.value


def test_the_button_alone_takes_a_number_as_it_stands_and_asks_for_a_choice() -> None:
    number, choice = guess_lost(), guess_plain_zap()
    number.button.click()
    assert number.value == 0
    assert status(number.message.value).startswith("Not yet: you said 0; ")
    choice.button.click()
    assert choice.value is ...
    assert status(choice.message.value) == f"No answer yet: choose one of: {', '.join(REACHED)}."


def test_every_frame_of_the_toy_can_be_said() -> None:
    control = guess_lost().control
    assert (control.min, control.max) == (0, 32)
    assert guess_plain_zap().control.options == REACHED
