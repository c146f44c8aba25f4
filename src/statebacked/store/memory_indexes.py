"""The executable specification of index rows, in plain sets."""

from collections.abc import Iterator, Sequence

from statebacked.model.ids import InstanceId, InstanceKey
from statebacked.model.indexes import IndexKey, IndexRow, Order, Place, Range
from statebacked.model.values import Indexed


class MemoryIndexes:
    """What each instance is found by: pairs of index and value."""

    def __init__(self) -> None:
        self.rows: dict[InstanceId, tuple[InstanceKey, frozenset[tuple[str, str]]]] = {}

    def write(self, instance: InstanceId, key: InstanceKey, indexed: Indexed) -> None:
        """These are all the values of the instance from now on."""
        pairs = frozenset((index, value) for index, values in indexed for value in values)
        if pairs:
            self.rows[instance] = (key, pairs)
        else:
            self.rows.pop(instance, None)

    def find(
        self, index: IndexKey, ranges: Sequence[Range], order: Order
    ) -> Iterator[tuple[InstanceId, IndexRow]]:
        """Every row of the ranges, in their order."""
        held = sorted(
            (
                (IndexRow(value, key.name), instance)
                for instance, (key, pairs) in self.rows.items()
                for name, value in pairs
                if (key.org, key.machine, name) == index
            ),
            reverse=order == "desc",
        )
        for one in ranges:
            yield from ((instance, row) for row, instance in held if _is_between(row, one))


def _is_between(row: IndexRow, one: Range) -> bool:
    place = Place(*row)
    return (one.above is None or place > one.above) and (one.below is None or place < one.below)
