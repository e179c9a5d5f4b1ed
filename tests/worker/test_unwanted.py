"""worker.py reconcile and what the destination is not to hold: EXCLUDE, --remove-unwanted, its guard and its races."""

import pytest
from test_reconcile import examples, found, numbers, queued, reconcile
from world import MIRROR, SOURCE, World

KEPT = 1024


@pytest.fixture
def excluded(world: World) -> World:
    """Three keys that are equal; two temporary ones in the destination of which the source has one; one only in the
    source; and one of somebody else's."""
    world.synced(*(f"data/{number}" for number in range(3)), modified=1_700_000_000)
    world.standin.configure_bucket(SOURCE, notification=None)
    for bucket, key in (
        (SOURCE, "data/a.tmp"),
        (MIRROR, "data/a.tmp"),
        (MIRROR, "data/x/b.tmp"),
        (SOURCE, "data/c.tmp"),
    ):
        world.standin.put(bucket, key)
    world.standin.put(MIRROR, "theirs/d.tmp")
    return world


SETTINGS = {"PREFIX_FILTER": "data/", "EXCLUDE": "*.tmp"}


def test_what_is_excluded_now_is_named_as_unwanted_and_is_no_difference(excluded: World):
    before = excluded.mirrored()
    status, output = reconcile(excluded, **SETTINGS)
    assert (status, found(output), queued(excluded)) == (0, {}, [])
    assert examples(output) == {("unwanted", "data/a.tmp"), ("unwanted", "data/x/b.tmp")}
    assert output.splitlines()[-1].partition(" queued=0")[2].startswith(" expired=0 unwanted=2 removed=0 seconds=")
    assert numbers(output)["compared"] == 3
    assert excluded.mirrored() == before


def test_without_exclude_and_keep_days_nothing_of_this_is_said(excluded: World):
    _, output = reconcile(excluded, "--dry-run", "--prefix", "data/")
    assert "expired" not in output
    assert "unwanted" not in output
    assert found(output) == {"missing": 1, "ghost": 1}
