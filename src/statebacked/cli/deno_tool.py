"""The deno that bundles and checks machines: where it is, how it is called, what its failures mean.

It is the binary of the `deno` package that this package depends on; STATEBACKED_DENO names another.
"""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from statebacked.cli.errors import BuildError, CliError

__all__ = [
    "Finished",
    "bundler_note",
    "deno_environment",
    "find_deno",
    "offline_reason",
    "run_deno",
    "start_deno",
]

_REGISTRY_LINE = re.compile(r"^\s*registry\s*=\s*(\S+)\s*$", re.MULTILINE)
_UNREACHABLE = re.compile(r"Failed loading (\S+)|error sending request for url \((\S+?)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a call of deno left; the text without its stack traces."""

    code: int
    out: str
    err: str


def find_deno(env: Mapping[str, str]) -> str:
    """Path of the binary. Raises CliError."""
    named = env.get("STATEBACKED_DENO")
    if named:
        return named
    from deno import find_deno_bin  # type: ignore[import-untyped]  # the package ships no types

    try:
        return str(find_deno_bin())
    except FileNotFoundError as exc:
        raise CliError(
            "the deno binary is missing: install statebacked again, or set STATEBACKED_DENO"
        ) from exc


def deno_environment(folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment, quiet, and with the registry of the nearest .npmrc: deno reads the project's
    own file for packages, but not for its bundler."""
    quiet = {**env, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}
    if "NPM_CONFIG_REGISTRY" not in env and (registry := _registry_of(folder)) is not None:
        quiet["NPM_CONFIG_REGISTRY"] = registry
    return quiet


def _registry_of(folder: Path) -> str | None:
    for parent in (folder, *folder.parents):
        try:
            text = (parent / ".npmrc").read_text(encoding="utf-8")
        except OSError:
            continue
        if (found := _REGISTRY_LINE.search(text)) is not None:
            return found[1]
    return None


def bundler_note(env: Mapping[str, str]) -> str:
    """What to say of a bundling that takes long: that it fetches the bundler, when deno has none yet."""
    kept = _deno_cache(env) / "dl"
    has_bundler = kept.is_dir() and any(path.name.startswith("esbuild") for path in kept.iterdir())
    return "" if has_bundler else " (the first time fetches the bundler)"


def _deno_cache(env: Mapping[str, str]) -> Path:
    """Where deno keeps what it fetches. Source: deno's manual, DENO_DIR."""
    if env.get("DENO_DIR"):
        return Path(env["DENO_DIR"])
    home = Path(env.get("HOME") or Path.home())
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "deno"
    return Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "deno"


def start_deno(arguments: Sequence[str], *, folder: Path, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """Deno at work in `folder`. Raises CliError when it does not start."""
    try:
        return subprocess.Popen(
            [find_deno(env), *arguments],
            cwd=folder,
            env=deno_environment(folder, env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as exc:
        raise CliError(f"deno does not start: {exc}") from exc


def run_deno(process: subprocess.Popen[str]) -> Finished:
    """Waits for its end. Raises BuildError when it could not reach the npm registry."""
    out, err = process.communicate()
    text = err.split("\nStack backtrace:")[0].strip()
    if process.returncode != 0 and (reason := offline_reason(text)) is not None:
        raise BuildError(reason)
    return Finished(code=process.returncode, out=out, err=text)


def offline_reason(text: str) -> str | None:
    """What to do, when deno's words say that a registry did not answer; None when they say something else."""
    found = _UNREACHABLE.search(text)
    if found is None:
        return None
    return (
        f"cannot fetch {found[1] or found[2]}: the bundler, and packages where there is no node_modules, are "
        "fetched from the npm registry the first time and kept. Connect once, or name a registry in .npmrc"
    )
