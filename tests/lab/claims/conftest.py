"""Experiments keep what they found; a planted change must neither meet that nor leave its own behind."""

from collections.abc import Iterator

import pytest

from tdpkit.lab.claims.ledger import forget


@pytest.fixture
def afresh() -> Iterator[None]:
    forget()
    yield
    forget()
