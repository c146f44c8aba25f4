"""Which major of xstate a bundle is for, and what to say of one that does not load.

Theory of operation. An exact version or range that the client sends decides the major. Without one, a bundle
that carries its own copy says which by the shape of its machine; any other is linked with 4, as the original
service did, and with 5 when an export is missing there.
"""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from statebacked.model.errors import InvalidMachine
from statebacked.ports.machines import Validated, WorkerGone
from statebacked.runtime.worker_frames import Loaded, Unloadable

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
    """Find the major under which a bundle loads. Raises InvalidMachine with the whole reason."""
    hinted = hinted_major(hint)
    if hinted is not None and hinted not in supported:
        known = " and ".join(str(major) for major in supported)
        raise InvalidMachine(f"XState {hinted} is not supported: this server runs XState {known}")
    majors = [hinted] if hinted is not None else [*supported]
    answer: Loaded | Unloadable | None = None
    for major in majors:
        answer, xstate = await _loaded(try_load, major)
        if isinstance(answer, Loaded):
            if not answer.inlined:
                return Validated(xstate)
            return await _validate_inlined(answer.major, major, supported, try_load)
        if not answer.missing_export:
            break
    assert isinstance(answer, Unloadable)
    raise InvalidMachine(answer.message)


async def _validate_inlined(
    major: int, loaded_under: int, supported: Sequence[int], try_load: TryLoad
) -> Validated:
    """A bundle with its own copy of `major`: it runs under that major's worker, so it must load there."""
    if major != loaded_under:
        if major not in supported:
            raise InvalidMachine(f"the bundle carries XState {major}, which this server does not support")
        answer, _ = await _loaded(try_load, major)
        if isinstance(answer, Unloadable):
            raise InvalidMachine(answer.message)
    return Validated(f"inlined-{major}")


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
