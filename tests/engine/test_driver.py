"""The driver: one signal at a time, and no command before its commit."""

import asyncio
from collections.abc import Callable

import pytest

from statebacked.core import phases
from statebacked.core.phases import Command
from statebacked.engine.driver import Driver, Ending
from statebacked.model.rows import Commit, Outcome
from tests.core import given


class Shell:
    """Records what the driver asks for. `fail_at`: executing a command of that type raises."""

    def __init__(self, fail_at: type[Command] | None = None) -> None:
        self.commits: list[tuple[Commit, asyncio.Future[Outcome]]] = []
        self.done: list[str] = []
        self.endings: list[Ending] = []
        self.on_execute: Callable[[Command], None] = lambda _: None
        self._fail_at = fail_at
        self.driver = Driver(
            given.loaded(),
            policy=given.POLICY,
            now=lambda: given.at(0),
            commit=self._commit,
            execute=self._execute,
            ended=self.endings.append,
        )

    def _commit(self, commit: Commit) -> "asyncio.Future[Outcome]":
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.commits.append((commit, future))
        return future

    def _execute(self, command: Command) -> None:
        if type(command) is self._fail_at:
            raise RuntimeError("a mistake of ours")
        self.done.append(type(command).__name__)
        self.on_execute(command)

    def step_once(self) -> None:
        """An event is computed; its commit is under way."""
        self.driver.signal(given.client())
        self.done.clear()
        self.driver.signal(given.stepped(self.driver.activation, given.step()))


async def _turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_no_command_is_executed_before_its_commit() -> None:
    async def story() -> None:
        shell = Shell()
        shell.step_once()
        await _turns()
        assert (len(shell.commits), shell.done, shell.driver.activation.seq) == (1, [], 1)
        shell.commits[0][1].set_result(Outcome.COMMITTED)
        await _turns()
        assert shell.done == ["Publish", "Reply", "WakeAt"]
        assert shell.driver.activation.seq == 2
        assert shell.endings == []

    asyncio.run(story())


def test_signals_wait_for_the_commit_under_way() -> None:
    async def story() -> None:
        shell = Shell()
        shell.step_once()
        shell.driver.signal(given.client("c2"))
        await _turns()
        assert shell.done == []
        shell.commits[0][1].set_result(Outcome.COMMITTED)
        await _turns()
        assert shell.done == ["Publish", "Reply", "WakeAt", "Compute", "WakeAt"]

    asyncio.run(story())


def test_signals_that_executing_brings_are_decided_afterwards() -> None:
    shell = Shell()
    seen: list[object] = []

    def answer(command: Command) -> None:
        seen.append(command)
        if isinstance(command, phases.Compute):
            shell.driver.signal(given.refused(shell.driver.activation))

    shell.on_execute = answer
    shell.driver.signal(given.client())
    assert shell.done == ["Compute", "WakeAt", "ReplyRefused", "WakeAt"]


@pytest.mark.parametrize("outcome", [Outcome.FENCED, Outcome.NAME_TAKEN])
def test_a_lost_race_ends_the_activation(outcome: Outcome) -> None:
    async def story() -> None:
        shell = Shell()
        shell.step_once()
        before = shell.driver.activation
        shell.commits[0][1].set_result(outcome)
        await _turns()
        _assert_ended(shell, outcome)
        assert shell.driver.activation == before

    asyncio.run(story())


def test_an_unknown_outcome_ends_the_activation() -> None:
    async def story() -> None:
        shell = Shell()
        shell.step_once()
        failure = RuntimeError("the store is away")
        shell.commits[0][1].set_exception(failure)
        await _turns()
        _assert_ended(shell, failure)

    asyncio.run(story())


def test_a_cancelled_commit_ends_the_activation() -> None:
    async def story() -> None:
        shell = Shell()
        shell.step_once()
        shell.commits[0][1].cancel()
        await _turns()
        assert shell.driver.has_ended
        assert isinstance(shell.endings[0], asyncio.CancelledError)

    asyncio.run(story())


def test_a_row_that_is_gone_is_decided_before_what_waits() -> None:
    async def story() -> None:
        shell = Shell()
        shell.driver = Driver(
            given.after(given.loaded(timers=(given.pending(),)), given.timer()),
            policy=given.POLICY,
            now=lambda: given.at(0),
            commit=shell._commit,
            execute=shell._execute,
            ended=shell.endings.append,
        )
        shell.driver.signal(given.stepped(shell.driver.activation, given.step()))
        shell.driver.signal(given.client())
        shell.commits[0][1].set_result(Outcome.CAUSE_GONE)
        await _turns()
        assert shell.done == ["Close", "WakeAt", "Compute", "WakeAt"]
        assert (shell.driver.activation.seq, shell.driver.activation.timers) == (1, ())
        assert shell.endings == []

    asyncio.run(story())


def test_a_fault_while_executing_ends_the_activation_where_it_was() -> None:
    async def story() -> None:
        shell = Shell(fail_at=phases.Publish)
        shell.step_once()
        before = shell.driver.activation
        shell.driver.signal(given.client("c2"))
        shell.commits[0][1].set_result(Outcome.COMMITTED)
        await _turns()
        _assert_ended(shell)
        assert isinstance(shell.endings[0], RuntimeError)
        assert shell.driver.activation == before

    asyncio.run(story())


def test_a_fault_without_a_commit_ends_the_activation_too() -> None:
    shell = Shell(fail_at=phases.Compute)
    shell.driver.signal(given.client())
    _assert_ended(shell)
    assert shell.driver.activation == given.loaded()


def _assert_ended(shell: Shell, ending: Ending | None = None) -> None:
    """Once, and deaf from then on."""
    assert shell.driver.has_ended
    assert len(shell.endings) == 1
    assert ending is None or shell.endings[0] is ending
    commits = len(shell.commits)
    shell.done.clear()
    shell.driver.signal(given.client("late"))
    shell.driver.signal(phases.Tick())
    assert (shell.done, len(shell.commits), len(shell.endings)) == ([], commits, 1)
