"""worker.py reconcile and what the destination is not to hold: EXCLUDE, --remove-unwanted, its guard and its races."""

import pytest
from test_reconcile import examples, found, numbers, queued, reconcile
from world import MIRROR, SOURCE, World


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


# Removal


def test_remove_unwanted_removes_just_that(excluded: World):
    status, output = reconcile(excluded, "--remove-unwanted", **SETTINGS)
    assert (status, found(output), queued(excluded)) == (0, {}, [])
    assert sorted(excluded.mirrored()) == ["data/0", "data/1", "data/2", "theirs/d.tmp"]
    assert (numbers(output)["unwanted"], numbers(output)["removed"]) == (2, 2)
    assert "           2 removed " in output
    for key in ("data/a.tmp", "data/x/b.tmp"):
        assert f'INFO removed key="{key}"' in output
    assert numbers(reconcile(excluded, "--remove-unwanted", **SETTINGS)[1])["unwanted"] == 0


def test_a_dry_run_only_counts(excluded: World):
    before = excluded.mirrored()
    status, output = reconcile(excluded, "--remove-unwanted", "--dry-run", **SETTINGS)
    assert (status, numbers(output)["unwanted"], numbers(output)["removed"]) == (0, 2, 0)
    assert excluded.mirrored() == before


@pytest.mark.parametrize(("most", "status"), [("2", 3), ("3", 0)])
def test_ghosts_and_unwanted_together_are_what_the_guard_counts(excluded: World, most: str, status: int):
    excluded.standin.put(MIRROR, "data/ghost")
    before = excluded.mirrored()
    ended, output = reconcile(excluded, "--remove-unwanted", "--max-delete", most, **SETTINGS)
    assert ended == status, output
    if status:
        assert "raise --max-delete" in output
        assert (excluded.mirrored(), queued(excluded)) == (before, [])
    else:
        assert (numbers(output)["removed"], queued(excluded)) == (2, ["data/ghost"])


def test_too_many_unwanted_alone_are_refused_too(excluded: World):
    before = excluded.mirrored()
    assert reconcile(excluded, "--remove-unwanted", "--max-delete", "1", **SETTINGS)[0] == 3
    assert excluded.mirrored() == before


def test_an_audit_cannot_remove(excluded: World):
    status, output = reconcile(excluded, "--audit", "--remove-unwanted", **SETTINGS)
    assert status == 2
    assert "--remove-unwanted" in output
    assert "Traceback" not in output


def test_without_the_settings_it_says_that_nothing_can_be_unwanted_and_goes_on(excluded: World):
    status, output = reconcile(excluded, "--remove-unwanted", "--prefix", "data/")
    assert status == 0, output
    assert "nothing can be unwanted" in output
    assert " removed=" not in output
    assert sorted(queued(excluded)) == ["data/c.tmp", "data/x/b.tmp"]
