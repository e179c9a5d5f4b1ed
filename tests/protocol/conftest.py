"""The world of histories.py for a test that tells one history step by step."""

import pytest
from histories import World

from mirror.key_sync import Interruption


@pytest.fixture
def world(monkeypatch):
    """A pause of a sync passes the time of that world."""
    built = World()

    async def pause(interruption: Interruption, seconds: float) -> None:
        built.pass_time(seconds)
        interruption.check()

    monkeypatch.setattr(Interruption, "pause", pause)
    return built
