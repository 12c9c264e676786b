from datetime import UTC, datetime, timedelta, timezone

import pytest

from synapseclr.errors import ConfigurationError
from synapseclr.volumes.root_versions import PROVENANCE, RootVersion, as_utc, disagreement

MOMENT = datetime(2024, 1, 22, 8, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [
        "2024-01-22T08:10:01",
        "2024-01-22 09:10:01+01:00",
        MOMENT.timestamp(),
        int(MOMENT.timestamp()),
        MOMENT.replace(tzinfo=None),
        MOMENT.astimezone(timezone(timedelta(hours=-8))),
    ],
)
def test_a_moment_is_read_as_utc(written):
    assert as_utc(written) == MOMENT
    assert as_utc(written).utcoffset() == timedelta(0)


@pytest.mark.parametrize("written", ["yesterday", "", 1e30, float("nan")])
def test_what_is_no_moment_is_said(written):
    with pytest.raises(ConfigurationError, match="is no moment in time"):
        as_utc(written)


def test_versions_disagree_by_moment_before_number():
    """The number of a version is another one in each datastack; the moment is not."""
    later = MOMENT + timedelta(seconds=2)
    assert RootVersion(943, MOMENT).disagrees_with(RootVersion(943, later))
    assert not RootVersion(943, MOMENT).disagrees_with(RootVersion(7, MOMENT + timedelta(seconds=0.5)))
    assert RootVersion(943).disagrees_with(RootVersion(1078, MOMENT))
    assert not RootVersion(943, MOMENT).disagrees_with(RootVersion(943))
    assert not RootVersion().disagrees_with(RootVersion(943, MOMENT))


def test_remapped_root_ids_are_of_no_version():
    source = {"materialization_version": 943, "root_ids_at": MOMENT.isoformat(), "is_remapped": True}
    version = RootVersion.of_table({PROVENANCE: source})
    assert version == RootVersion(None, MOMENT)
    assert not RootVersion.of_table({}).is_known


def test_the_remedy_names_what_the_segmentation_is_of():
    table = RootVersion(943, MOMENT)
    later = MOMENT + timedelta(days=9)
    assert disagreement(table, RootVersion(943, MOMENT), "graphene://x") is None
    told = disagreement(table, RootVersion(None, later), "graphene://x")
    assert f"those of version 943 ({MOMENT.isoformat()})" in told
    assert f"`timestamp: {later.isoformat()}`" in told
    assert "`materialization_version: 7`" in disagreement(RootVersion(943), RootVersion(7), "gs://flat")
