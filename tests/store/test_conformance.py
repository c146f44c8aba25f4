"""Runs the laws on every store."""

import pytest

from tests.store.conformance import CauseLaws, CommitLaws, RaceLaws
from tests.store.conformance_catalogue import MachineLaws, MigrationLaws, OrgLaws
from tests.store.conformance_indexes import IndexLaws
from tests.store.conformance_logs import ErasureLaws, LogLaws
from tests.store.conformance_rows import ListLaws, TimerLaws

pytestmark = pytest.mark.anyio


class TestCommit(CommitLaws): ...


class TestRace(RaceLaws): ...


class TestCause(CauseLaws): ...


class TestTimer(TimerLaws): ...


class TestList(ListLaws): ...


class TestIndex(IndexLaws): ...


class TestLogs(LogLaws): ...


class TestErasure(ErasureLaws): ...


class TestOrg(OrgLaws): ...


class TestMachine(MachineLaws): ...


class TestMigration(MigrationLaws): ...
