"""Which xstate a file means, and how deno finds packages where nobody has run npm.

A folder with its own node_modules (or deno.json) is taken as it is. Without one, packages come from the
registry: the versions that package.json and its lock file name, else what `npm install` would bring today.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # of deno's JSON
from urllib.parse import unquote, urlsplit

from statebacked.cli.deno_tool import run_deno, start_deno
from statebacked.cli.errors import BuildError

__all__ = ["Resolution", "resolution_flags", "resolve"]

# What the quick start's `npm install xstate @statebacked/machine` brings.
DEFAULT_PACKAGES = {"xstate": "5", "@statebacked/machine": "0.6"}

_XSTATE = re.compile(r"(?:npm:/?)?xstate(?:@[^/]+)?(?:/.*)?")
_VERSION = re.compile(r"(?<![\w.])v?(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?")
_XSTATE_PACKAGE = re.compile(r"npm:/?xstate@([0-9]+\.[0-9]+\.[0-9]+[^/_]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """`flags` are deno's; `xstate` is the exact version, None when the file imports none; `files` are those
    in which a change changes the machine."""

    flags: tuple[str, ...]
    xstate: str | None
    files: tuple[Path, ...]


def resolve(file: Path, env: Mapping[str, str]) -> Resolution:
    """Reads the graph of `file`. Raises BuildError: a Node module, two xstate versions, an unreachable
    registry."""
    flags = resolution_flags(file)
    arguments = ["info", "--json", "--quiet", *flags, file.name]
    finished = run_deno(start_deno(arguments, folder=file.parent, env=env))
    if finished.code != 0:
        # The bundler meets the same trouble and has the better words for it.
        return Resolution(flags=flags, xstate=None, files=(file,))
    graph = json.loads(finished.out)
    modules = [module for module in graph["modules"] if module["specifier"].startswith("file://")]
    ours = [module for module in modules if "/node_modules/" not in module["specifier"]]
    files = tuple(dict.fromkeys((file, *(_path(module["specifier"]) for module in ours))))
    try:
        xstate = _xstate_of(ours, graph.get("redirects", {}), file)
    except BuildError as exc:
        exc.files = files
        raise
    return Resolution(flags=flags, xstate=xstate, files=files)


def _xstate_of(modules: Sequence[Mapping[str, Any]], redirects: Mapping[str, str], file: Path) -> str | None:
    """The version that they import. Raises BuildError."""
    versions: set[str] = set()
    for module in modules:
        for dependency in module.get("dependencies", []):
            _refuse_node_module(dependency, _path(module["specifier"]))
            if _XSTATE.fullmatch(dependency["specifier"]):
                versions |= _versions(dependency, redirects) or _installed(file)
    if len(versions) > 1:
        raise BuildError(
            f"{file.name} imports several versions of xstate ({', '.join(sorted(versions))}): use one"
        )
    return next(iter(versions), None)


def xstate_beside(file: Path) -> str | None:
    """The exact version of xstate that the package around `file` means: the installed one, else the lock
    file's, else the lowest of the range in package.json. None when there is no package, or it names none."""
    package = next((parent for parent in file.parents if (parent / "package.json").is_file()), None)
    if package is None:
        return None
    installed = _installed(file)
    named = {**_dependencies(package, "peerDependencies"), **_named_packages(package)}.get("xstate")
    for version in (*installed, named):
        found = _VERSION.search(version or "")
        if found is not None:
            return ".".join(part or "0" for part in found.groups())
    return None


def _dependencies(folder: Path, kind: str) -> dict[str, str]:
    wanted = _read_json(folder / "package.json").get(kind)
    return {name: str(version) for name, version in wanted.items()} if isinstance(wanted, dict) else {}


def resolution_flags(file: Path) -> tuple[str, ...]:
    """How deno shall look for what `file` imports."""
    # Imports without an extension are what bundlers for Node accept.
    flags: tuple[str, ...] = ("--unstable-sloppy-imports",)
    if not any((parent / "deno.lock").is_file() for parent in file.parents):
        flags += ("--no-lock",)
    for parent in file.parents:
        if (parent / "node_modules" / "xstate" / "package.json").is_file():
            return flags
        if (parent / "deno.json").is_file() or (parent / "deno.jsonc").is_file():
            return flags
        if (parent / "package.json").is_file():
            return (*flags, "--node-modules-dir=none", *_import_map(_named_packages(parent)))
    return (*flags, *_import_map({}))


def _import_map(named: Mapping[str, str]) -> tuple[str, ...]:
    imports: dict[str, str] = {}
    for name, version in {**DEFAULT_PACKAGES, **named}.items():
        imports[name] = f"npm:{name}@{version}"
        imports[f"{name}/"] = f"npm:/{name}@{version}/"
    return ("--import-map", "data:application/json," + json.dumps({"imports": imports}))


def _named_packages(folder: Path) -> dict[str, str]:
    """Packages of the map that package.json names, at the exact version of the lock file beside it if there
    is one."""
    package = _read_json(folder / "package.json")
    locked = _read_json(folder / "package-lock.json").get("packages")
    named: dict[str, str] = {}
    for kind in ("devDependencies", "dependencies"):
        wanted = package.get(kind)
        for name in DEFAULT_PACKAGES.keys() & (wanted if isinstance(wanted, dict) else {}):
            entry = locked.get(f"node_modules/{name}") if isinstance(locked, dict) else None
            exact = entry.get("version") if isinstance(entry, dict) else None
            assert isinstance(wanted, dict)
            named[name] = str(exact or wanted[name])
    return named


def _read_json(path: Path) -> dict[str, object]:
    """Empty when there is none or it is broken: npm and deno say so better."""
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _refuse_node_module(dependency: Mapping[str, object], file: Path) -> None:
    code = dependency.get("code")
    specifier = code.get("specifier") if isinstance(code, dict) else None
    if not isinstance(code, dict) or not str(specifier).startswith("node:"):
        return
    start = code["span"]["start"]
    place = f"{file}:{start['line'] + 1}:{start['character'] + 1}"
    raise BuildError(
        f"{place}: a machine cannot import {dependency['specifier']}. "
        "It runs where the web's own functions are (fetch, crypto.subtle, WebAssembly, …) and Node's are not"
    )


def _versions(dependency: Mapping[str, object], redirects: Mapping[str, str]) -> set[str]:
    """Exact versions only: a range that deno could not resolve says nothing."""
    named = _XSTATE_PACKAGE.match(str(dependency["specifier"]))
    if named is not None:
        return {named[1]}
    found: set[str] = set()
    for side in ("code", "type"):
        target = dependency.get(side)
        specifier = target.get("specifier") if isinstance(target, dict) else None
        if not isinstance(specifier, str):
            continue
        if specifier.startswith("file://"):
            version = _version_above(_path(specifier))
        else:
            package = _XSTATE_PACKAGE.match(redirects.get(specifier, specifier))
            version = package[1] if package is not None else None
        if version is not None:
            found.add(version)
    return found


def _installed(file: Path) -> set[str]:
    """The version in the nearest node_modules: without a package.json beside it deno does not look there."""
    for parent in file.parents:
        version = _read_json(parent / "node_modules" / "xstate" / "package.json").get("version")
        if isinstance(version, str):
            return {version}
    return set()


def _version_above(path: Path) -> str | None:
    for parent in path.parents:
        package = _read_json(parent / "package.json")
        if package.get("name") == "xstate" and isinstance(package.get("version"), str):
            return str(package["version"])
    return None


def _path(specifier: str) -> Path:
    return Path(unquote(urlsplit(specifier).path))
