"""Which major of xstate a bundle is for, and what to say of one that does not load.

Theory of operation. An exact version or range that the client sends decides the major. Without one, a
bundle that carries its own copy says which by the shape of its machine; of the others, one that loads
under a single major is for that one. What loads under both is judged by its configuration: some of its
keys and the parameters of its functions belong to one major alone. Signs of both are a contradiction,
and refused: under the wrong major guards are passed over. No sign at all is XState 4, as in the original
service. Guards that the major passes over are refused in any case.
"""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from statebacked.model.errors import InvalidMachine
from statebacked.ports.machines import Validated, WorkerGone
from statebacked.runtime.worker_frames import Examined, Loaded, Unloadable

_HINT: Final = re.compile(r"\s*+[\^~>=v]*+\s*+(\d{1,4})(?:[.\s<|x*-].*)?", re.DOTALL)
_HINT_CHARACTERS_MAX: Final = 256
_MESSAGE_CHARACTERS_MAX: Final = 16_000

# Loads a bundle in a throw-away worker of a major: the answer, and the exact xstate version that it links.
TryLoad = Callable[[int], Awaitable[tuple[Loaded | Unloadable, str]]]


def major_of(xstate: str) -> int:
    """The major that a stored version ("5.33.3", "inlined-4") runs under."""
    return int(xstate.removeprefix("inlined-").split(".")[0])


def hinted_major(hint: str | None) -> int | None:
    """The major that a client's hint names: "5.33.3", "^5", ">=4.38 <5". None when it says nothing."""
    if hint is None or len(hint) > _HINT_CHARACTERS_MAX:
        return None
    found = _HINT.fullmatch(hint)
    return int(found[1]) if found else None


async def validate(hint: str | None, supported: Sequence[int], try_load: TryLoad) -> Validated:
    """Find the major under which a bundle runs. Raises InvalidMachine with the whole reason."""
    hinted = hinted_major(hint)
    if hinted is not None and hinted not in supported:
        known = " and ".join(str(major) for major in supported)
        raise InvalidMachine(f"XState {hinted} is not supported: this server runs XState {known}")
    first, *others = [hinted] if hinted is not None else [*supported]
    one, xstate = await _loaded(try_load, first)
    if isinstance(one, Loaded) and one.inlined:
        return await _validate_inlined(one, first, supported, try_load)
    if isinstance(one, Loaded) and (not others or not _signs(one, others[0])):
        return _accepted(one, xstate, is_told=hinted is not None)
    if not others:
        assert isinstance(one, Unloadable)
        raise InvalidMachine(one.message)
    two, other_xstate = await _loaded(try_load, others[0])
    if isinstance(two, Unloadable):
        if isinstance(one, Loaded):
            return _accepted(one, xstate)
        raise InvalidMachine((two if one.missing_export else one).message)
    if two.inlined:
        return await _validate_inlined(two, others[0], supported, try_load)
    if isinstance(one, Loaded) and _signs(one, first):
        raise InvalidMachine(_contradiction(one))
    return _accepted(two, other_xstate)


async def _validate_inlined(
    loaded: Loaded, under: int, supported: Sequence[int], try_load: TryLoad
) -> Validated:
    """A bundle with its own copy of a major: it runs under that major's worker, so it must load there."""
    major = loaded.major
    if major != under:
        if major not in supported:
            raise InvalidMachine(f"the bundle carries XState {major}, which this server does not support")
        answer, _ = await _loaded(try_load, major)
        if isinstance(answer, Unloadable):
            raise InvalidMachine(answer.message)
        loaded = answer
    return _accepted(loaded, f"inlined-{major}", is_told=True)


def _accepted(loaded: Loaded, xstate: str, *, is_told: bool = False) -> Validated:
    """Raises InvalidMachine when a guard would be passed over. `is_told`: the major was no choice of ours."""
    examined = loaded.examined or Examined()
    if examined.ignored:
        key = "`cond`" if loaded.major == 4 else "`guard`"
        raise InvalidMachine(
            f"this machine runs as XState {loaded.major}, which passes over {_listed(examined.ignored)}: "
            f"write {key}, or {_HOW_TO_TELL}"
        )
    warnings = [_shortened(warning) for warning in examined.warnings[:_LISTED_MAX]]
    is_guessed = loaded.examined is not None and not (is_told or examined.signs4 or examined.signs5)
    if is_guessed and loaded.major == 4:
        warnings.insert(
            0, f"nothing in this machine tells XState 4 from 5: it runs as {xstate}. {_HOW_TO_TELL}"
        )
    return Validated(xstate, tuple(warnings))


def _signs(loaded: Loaded, major: int) -> Sequence[str]:
    examined = loaded.examined or Examined()
    return examined.signs4 if major == 4 else examined.signs5


def _contradiction(loaded: Loaded) -> str:
    return (
        "this module fits XState 4 and 5, and its machine is written in the words of both: "
        f"of XState 4 is {_listed(_signs(loaded, 4))}; of XState 5 is {_listed(_signs(loaded, 5))}. "
        f"Under the wrong one guards would be passed over, so {_HOW_TO_TELL}"
    )


_HOW_TO_TELL: Final = (
    'say which it is for: {"xstate": "5.33.3"} (or a version 4) as the body of POST /machines/{machine}/v, '
    "`smply machines create --node FILE`, or --js with a package.json beside the file that names xstate"
)
_LISTED_MAX: Final = 10
_TOLD_MAX: Final = 3
_TEXT_CHARACTERS_MAX: Final = 400


def _listed(signs: Sequence[str]) -> str:
    more = f" (and {len(signs) - _TOLD_MAX} more)" if len(signs) > _TOLD_MAX else ""
    return ", ".join(_shortened(sign) for sign in signs[:_TOLD_MAX]) + more


def _shortened(text: str) -> str:
    return text if len(text) <= _TEXT_CHARACTERS_MAX else text[:_TEXT_CHARACTERS_MAX] + "…"


async def _loaded(try_load: TryLoad, major: int) -> tuple[Loaded | Unloadable, str]:
    try:
        return await try_load(major)
    except WorkerGone as gone:
        raise InvalidMachine(f"the module was loaded, and its sandbox {gone.reason}") from gone


# --- what Deno says of an import, without the host's paths ---------------------------------------

_FILE_URL: Final = re.compile(r"file://[^\s\"'`)]*")
_PLACE: Final = re.compile(r"(?<!\s)\s*+\(?(?:at )?blob:[^\s\"'`)]*\)?")


def read_import_map(path: Path) -> dict[str, str]:
    """Which specifier each file URL stands for, from a worker's import map."""
    imports = json.loads(path.read_bytes())["imports"]
    return {(path.parent / target).resolve().as_uri(): name for name, target in imports.items()}


def without_paths(message: str, dist: Path, specifiers: dict[str, str]) -> str:
    """The message with each path of the host replaced: by the specifier that it stands for, if it is one."""

    def name(found: re.Match[str]) -> str:
        return specifiers.get(found[0].rstrip(".,:;"), "a module that is not available")

    message = _PLACE.sub("", message[:_MESSAGE_CHARACTERS_MAX])
    message = _FILE_URL.sub(name, message)
    return message.replace(str(dist), "")
