"""Messages whose recipient does not exist and cannot be created.

The refusal is decided and committed like any other: by the driver of an activation that exists for this one
signal. Nobody else can reach that activation, so it needs no worker, alarm or place among the loaded ones.
"""

import structlog

from statebacked.core.delivery import of_message
from statebacked.core.phases import Activation, Command, Complain, Delivered, Post, Redeliver, Undeliverable
from statebacked.engine.driver import Driver, Ending
from statebacked.engine.loaded import Parts
from statebacked.engine.relay import Relay
from statebacked.model.errors import StateBackedError
from statebacked.model.rows import DueMessage

logger = structlog.get_logger(__name__)


def refuse_message(
    due: DueMessage, error: StateBackedError, absent: Activation, parts: Parts, relay: Relay
) -> None:
    """Count a failed attempt of `due`, and tell `relay` when to deliver it again or that it is a dead letter.
    `absent` is an activation of the recipient without a state. If the commit fails, no attempt is counted."""

    def execute(command: Command) -> None:
        match command:
            case Delivered(causes):
                relay.done(causes)
            case Redeliver(cause, attempts, at):
                relay.redeliver(cause, attempts, at)
            case Post():
                relay.scan_soon()  # for the parent of a child that cannot be created
            case Complain(_, code, message):
                logger.info("a message is refused", machine=due.to.machine, code=code, reason=message)
            case _:
                raise AssertionError(command)

    def ended(ending: Ending) -> None:
        logger.error("the refusal of a message cannot be committed yet", error=repr(ending))
        relay.turned_away(due)

    driver = Driver(
        absent,
        policy=parts.policy,
        now=parts.clock.now,
        commit=parts.store.commit,
        execute=execute,
        ended=ended,
    )
    driver.signal(Undeliverable(of_message(due), error.code, error.message))
