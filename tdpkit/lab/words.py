"""Numbers in sentences."""


def group_digits(number: int) -> str:
    """6303771 as ``6 303 771``."""
    return f"{number:,}".replace(",", " ")


def count_of(number: int, noun: str, plural: str = "") -> str:
    """``1 frame``, ``2 frames``, ``6 303 771 frames``; `plural` where it is not the noun with an s."""
    return f"{group_digits(number)} {noun if number == 1 else plural or noun + 's'}"
