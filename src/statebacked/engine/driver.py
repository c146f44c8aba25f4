"""The imperative shell of one activation: signal, decide, commit, execute. Too small to hide a mistake in.

It costs nothing while idle: no task and no queue of its own, a deque and a busy flag instead.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from statebacked.core.instance import decide
from statebacked.core.phases import Activation, CauseGone, Command, Decision, Signal
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Cause
from statebacked.model.rows import Commit, Outcome
from statebacked.model.values import Now

Ending = Outcome | BaseException  # why an activation ended: a lost race, an unknown outcome, or our fault


class Driver:
    """Takes signals for one activation, one at a time, and executes no command before its commit is durable.

    `ended` is called once, when a commit did not succeed: the activation is over and must be loaded anew.
    """

    def __init__(
        self,
        activation: Activation,
        *,
        policy: Policy,
        now: Callable[[], Now],
        commit: Callable[[Commit], Awaitable[Outcome]],
        execute: Callable[[Command], None],
        ended: Callable[[Ending], None],
    ) -> None:
        self.activation = activation
        self.has_ended = False
        self._policy = policy
        self._now = now
        self._commit = commit
        self._execute = execute
        self._ended = ended
        self._signals: deque[Signal] = deque()
        self._is_busy = False

    def signal(self, signal: Signal) -> None:
        """Never waits and never raises: a fault of ours ends the activation, and the end is deaf."""
        if self.has_ended:
            return
        self._signals.append(signal)
        if not self._is_busy:
            self._run()

    def _run(self) -> None:
        self._is_busy = True
        try:
            while self._signals and not self.has_ended:
                decision = decide(self.activation, self._signals.popleft(), self._now(), self._policy)
                if decision.commit is not None:
                    outcome = asyncio.ensure_future(self._commit(decision.commit))
                    outcome.add_done_callback(partial(self._committed, decision))
                    return
                self._follow(decision)
        except Exception as fault:
            self._end(fault)
        self._is_busy = False

    def _committed(self, decision: Decision, done: "asyncio.Future[Outcome]") -> None:
        failure = asyncio.CancelledError() if done.cancelled() else done.exception()
        if failure is not None or done.result() not in (Outcome.COMMITTED, Outcome.CAUSE_GONE):
            self._end(failure or done.result())
            return
        if done.result() is Outcome.CAUSE_GONE:
            assert decision.commit is not None
            self._signals.appendleft(CauseGone(_causes(decision.commit)))
        else:
            try:
                self._follow(decision)
            except Exception as fault:
                self._end(fault)
        self._run()

    def _follow(self, decision: Decision) -> None:
        before = self.activation
        self.activation = decision.activation
        try:
            for command in decision.commands:
                self._execute(command)
        except Exception:
            self.activation = before  # who waited then may not be answered yet
            raise

    def _end(self, ending: Ending) -> None:
        self.has_ended = True
        self._signals.clear()
        self._ended(ending)


def _causes(commit: Commit) -> tuple[Cause, ...]:
    return commit.consumed if commit.rejected is None else (commit.rejected.cause,)
