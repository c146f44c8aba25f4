"""A bucket gives its burst at once, then its count in every period."""

from statebacked.engine.buckets import Bucket
from statebacked.model.ids import Monotonic
from statebacked.model.limits import ORG_SPAWNS_BURST, ORG_SPAWNS_PER_MINUTE


def taken(bucket: Bucket, now_ms: int) -> int:
    """How many it gives at that moment."""
    count = 0
    while bucket.take(Monotonic(now_ms)):
        count += 1
    return count


def test_an_org_spawns_a_burst_at_once_and_then_so_many_a_minute() -> None:
    bucket = Bucket(ORG_SPAWNS_PER_MINUTE, 60_000, ORG_SPAWNS_BURST)
    assert taken(bucket, 0) == ORG_SPAWNS_BURST
    assert taken(bucket, 0) == 0
    assert taken(bucket, 60_000) == ORG_SPAWNS_PER_MINUTE
    assert taken(bucket, 90_000) == ORG_SPAWNS_PER_MINUTE // 2
    assert taken(bucket, 10**9) == ORG_SPAWNS_BURST
