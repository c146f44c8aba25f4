"""What an upload says of a bundle, with real throw-away workers."""

import asyncio

import msgspec

from statebacked.model.errors import InvalidMachine
from statebacked.ports.machines import Validated
from statebacked.runtime.validate import validate
from statebacked.runtime.worker_frames import Loaded, Unloadable
from tests.runtime.driver import WorkerProcess

_ANSWER = msgspec.json.Decoder(Loaded | Unloadable)


def judge(bundle: str, hint: str | None = None) -> Validated | str:
    """The version that would run it, or the whole reason of a refusal."""

    async def try_load(major: int) -> tuple[Loaded | Unloadable, str]:
        with WorkerProcess(major) as worker:
            answer = worker.load(bundle, examine=True)
            return _ANSWER.decode(msgspec.json.encode(answer)), worker.ready["xstate"]

    try:
        return asyncio.run(validate(hint, (4, 5), try_load))
    except InvalidMachine as error:
        return error.message


def major_of_judged(bundle: str) -> int | str:
    judged = judge(bundle)
    return judged if isinstance(judged, str) else int(judged.xstate.removeprefix("inlined-")[0])
