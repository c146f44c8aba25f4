"""A backtracking matcher that counts its steps: what Python's `re` does with a pattern, made visible.

It walks the parse tree of `re` itself in the order in which `re` tries alternatives. Only the number of steps
counts here; of groups and look-arounds it knows what the patterns of this project have.
"""

import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

# Any: the parse tree of `re` has no types.
Tree = Any
_parse: Callable[..., Tree] = re._parser.parse
_CATEGORIES = {
    "CATEGORY_SPACE": lambda c: chr(c).isspace(),
    "CATEGORY_NOT_SPACE": lambda c: not chr(c).isspace(),
    "CATEGORY_DIGIT": lambda c: chr(c).isdigit(),
    "CATEGORY_WORD": lambda c: chr(c).isalnum() or chr(c) == "_",
}
_REPEATS_MAX = 12  # a bounded repeat is looked at as one of at most so many: the growth is the same
_STEPS_MAX = 100_000
sys.setrecursionlimit(max(sys.getrecursionlimit(), 50_000))


class TooManySteps(Exception):
    """More than a pattern that is linear could need."""


class Matcher:
    """Of one pattern. `steps` counts the characters and branches that were looked at."""

    def __init__(self, pattern: "re.Pattern[Any]") -> None:
        self._tree = _parse(pattern.pattern, pattern.flags & ~re.UNICODE)
        self._is_multiline = bool(pattern.flags & re.MULTILINE)
        self.steps = 0

    def fullmatch(self, text: str) -> bool:
        """As re.fullmatch, which for steps is re.match, too."""
        return self._run(list(self._tree), text, 0, lambda at: at == len(text))

    def scan(self, text: str) -> None:
        """As re.finditer or re.sub: from each place on where the match before ended."""
        at = 0
        while at <= len(text):
            ends: list[int] = []
            start = at

            def end(here: int, ends: list[int] = ends) -> bool:
                ends.append(here)
                return True

            self._run(list(self._tree), text, start, end)
            at = max(ends[-1], start + 1) if ends else start + 1

    def _run(self, items: list[Tree], text: str, at: int, then: Callable[[int], bool]) -> bool:
        self.steps += 1
        if self.steps > _STEPS_MAX:
            raise TooManySteps
        if not items:
            return then(at)
        (op, value), rest = items[0], items[1:]
        name = str(op)

        def go_on(here: int) -> bool:
            return self._run(rest, text, here, then)

        match name:
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                return at < len(text) and _takes(name, value, ord(text[at])) and go_on(at + 1)
            case "SUBPATTERN":
                return self._run(list(value[3]), text, at, go_on)
            case "BRANCH":
                return any(self._run(list(branch), text, at, go_on) for branch in value[1])
            case "AT":
                return self._stands(str(value), text, at) and go_on(at)
            case "MAX_REPEAT" | "MIN_REPEAT":
                return self._repeat(value, text, at, go_on, is_lazy=name == "MIN_REPEAT")
            case "POSSESSIVE_REPEAT":
                return self._possess(value, text, at, go_on)
            case "ASSERT_NOT" if value[0] == -1:  # of one character
                return not (at and self._run(list(value[1]), text, at - 1, lambda _: True)) and go_on(at)
            case "ASSERT" | "ASSERT_NOT":
                found = self._run(list(value[1]), text, at, lambda _: True)
                return found == (name == "ASSERT") and go_on(at)
            case _:
                raise NotImplementedError(name)

    def _repeat(self, value: Tree, text: str, at: int, then: Callable[[int], bool], *, is_lazy: bool) -> bool:
        least, most = (min(int(bound), _REPEATS_MAX) if int(bound) < 2**20 else 2**30 for bound in value[:2])
        body = list(value[2])

        def again(here: int, count: int) -> bool:
            self.steps += 1
            if is_lazy and count >= least and then(here):
                return True
            if count < most and self._run(
                body, text, here, lambda end: (end > here or count < least) and again(end, count + 1)
            ):
                return True
            return not is_lazy and count >= least and then(here)

        return again(at, 0)

    def _possess(self, value: Tree, text: str, at: int, then: Callable[[int], bool]) -> bool:
        body, count = list(value[2]), 0
        while count < int(value[1]):
            ends: list[int] = []
            if not self._run(body, text, at, lambda end, ends=ends: not ends.append(end)):  # type: ignore[misc]
                break
            at, count = ends[0], count + 1
        return count >= int(value[0]) and then(at)

    def _stands(self, where: str, text: str, at: int) -> bool:
        match where:
            case "AT_BEGINNING":
                return at == 0 or (self._is_multiline and text[at - 1] == "\n")
            case "AT_END":
                return at == len(text) or (self._is_multiline and text[at] == "\n")
            case "AT_BOUNDARY":
                sides = [0 <= i < len(text) and (text[i].isalnum() or text[i] == "_") for i in (at - 1, at)]
                return sides[0] != sides[1]
            case _:
                raise NotImplementedError(where)

    def letters(self) -> set[str]:
        """A character for each literal and each class of the pattern, and some that are in none."""
        found = set("!\n a0")
        _collect(self._tree, found)
        return found


def _takes(name: str, value: Tree, code: int) -> bool:
    match name:
        case "LITERAL":
            return bool(code == value)
        case "NOT_LITERAL":
            return bool(code != value)
        case "ANY":
            return code != ord("\n")
        case _:
            pass
    takes = any(_in_class(str(op), argument, code) for op, argument in value)
    return takes != (str(value[0][0]) == "NEGATE")


def _in_class(name: str, value: Tree, code: int) -> bool:
    match name:
        case "LITERAL":
            return bool(code == value)
        case "RANGE":
            return bool(value[0] <= code <= value[1])
        case "CATEGORY":
            return bool(_CATEGORIES[str(value)](code))
        case "NEGATE":
            return False
        case _:
            raise NotImplementedError(name)


def _collect(tree: Iterable[Tree], found: set[str]) -> None:
    for op, value in tree:
        match str(op):
            case "LITERAL" | "NOT_LITERAL":
                found.add(chr(value))
            case "RANGE":
                found.add(chr(value[0]))
            case "IN":
                # of a class one member and its edges: its members take the same way
                _collect([item for item in value if str(item[0]) in ("LITERAL", "RANGE")][:4], found)
            case "SUBPATTERN":
                _collect(value[3], found)
            case "BRANCH":
                for branch in value[1]:
                    _collect(branch, found)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                _collect(value[2], found)
            case "ASSERT" | "ASSERT_NOT":
                _collect(value[1], found)
            case _:
                pass
