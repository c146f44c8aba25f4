"""A process that commits steps of a few instances and says so, until it is killed. Run by test_kill.py.

    python -m tests.store.committing_child FILE

Prints "epoch N", then "instance seq" for every commit that was acknowledged.
"""

import asyncio
import sys
from pathlib import Path

from statebacked.model.ids import Epoch, InstanceId
from statebacked.model.rows import Outcome
from statebacked.store.sqlite.store import SqliteStore
from tests.store.builders import birth, key_of, message, of_message, step

INSTANCES = [InstanceId(f"ins_{number}") for number in range(16)]


async def keep_committing(store: SqliteStore, instance: InstanceId, epoch: Epoch) -> None:
    """Every step consumes the message that the step before it sent."""
    record = await store.load(key_of(instance))
    seq = 0 if record is None else record.view.seq
    while True:
        sent = (message(f"{seq + 1}.1"),)
        if seq == 0:
            commit = birth(instance, epoch, messages=sent)
        else:
            commit = step(instance, epoch, seq, messages=sent, consumed=(of_message(f"{seq}.1"),))
        assert await store.commit(commit) is Outcome.COMMITTED
        seq += 1
        sys.stdout.write(f"{instance} {seq}\n")
        sys.stdout.flush()


async def main() -> None:
    store = await SqliteStore.open(Path(sys.argv[1]))
    epoch = await store.acquire("child")
    print("epoch", epoch, flush=True)
    await asyncio.gather(*(keep_committing(store, one, epoch) for one in INSTANCES))


if __name__ == "__main__":
    asyncio.run(main())
