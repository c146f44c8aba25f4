"""Five kills in every test run; `make kill` does a hundred."""

from tests.e2e import kill


def test_the_laws_hold_after_kill_9_under_load() -> None:
    report = kill.run(kills=5, seed=20)
    assert report.kills == 5
    assert report.acknowledged > 100
    assert report.performed > 10
    assert min(report.rang, report.heard, report.ended) > 0
