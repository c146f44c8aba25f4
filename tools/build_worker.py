"""Builds the worker's JavaScript: src/statebacked/runtime/js/dist/<major>/ with boot.js, the entries of
XState that machine code may import, and import-map.json, which says which names lead to them.

Run by `make setup` and by the build of a wheel. The versions of XState stand in js/deno.json and nowhere
else; js/deno.lock holds their hashes.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

JS = Path(__file__).resolve().parent.parent / "src" / "statebacked" / "runtime" / "js"
CONFIG = JS / "deno.json"
LOCK = JS / "deno.lock"
MAJORS = (4, 5)
XSTATE5_ENTRIES = ("actions", "actors", "guards", "graph", "dev")
ASYNC_HOOKS = "node:async_hooks"  # for our own code only: console lines are attributed with it


class BuildFailed(Exception):
    """The worker cannot be built; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Library:
    """One major of XState: the file behind each subpath that may be imported ("" is the package itself)."""

    major: int
    version: str
    files: dict[str, Path]


def build() -> None:
    """Build dist/<major> for both majors. Raises BuildFailed."""
    deno = find_deno()
    root = _download(deno)
    libraries = {major: _library(root, major) for major in MAJORS}
    builtins = _builtin_modules(deno)
    (JS / "dist").mkdir(exist_ok=True)
    for major, library in libraries.items():
        other = libraries[next(m for m in MAJORS if m != major)]
        target = JS / "dist" / str(major)
        with tempfile.TemporaryDirectory(dir=JS / "dist", prefix=".build-") as scratch:
            output = _bundle(deno, library, Path(scratch))
            _link(output, library)
            _keep_causes(output, library)
            mapping = _import_map(library, other, builtins)
            (output / "import-map.json").write_text(json.dumps(mapping, indent=1) + "\n")
            shutil.rmtree(target, ignore_errors=True)
            output.replace(target)
        print(f"built the worker for XState {library.version}")


def find_deno() -> str:
    """The deno binary of the environment that this Python runs in, else that on PATH. Raises BuildFailed."""
    found = shutil.which("deno", path=str(Path(sys.executable).parent)) or shutil.which("deno")
    if found is None:
        raise BuildFailed("deno is not installed: run `pip install deno`")
    return found


def _run(deno: str, *arguments: str) -> str:
    done = subprocess.run([deno, *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr).strip()
    if re.search(r"registry|error sending request|dns|client error", text, re.IGNORECASE):
        raise BuildFailed(
            "the npm registry cannot be reached, and XState or the bundler is not in deno's cache yet: go "
            f"online, or name a registry in ~/.npmrc, and run this again.\n{text}"
        )
    raise BuildFailed(f"deno {arguments[0]} failed:\n{text}")


def _download(deno: str) -> Path:
    """Fetch both versions of XState into deno's cache; returns where it keeps npm packages."""
    imports = json.loads(CONFIG.read_text())["imports"]
    names = [imports[f"xstate{major}"] for major in MAJORS]
    _run(deno, "cache", "--quiet", "--config", str(CONFIG), "--lock", str(LOCK), "--frozen", *names)
    return Path(json.loads(_run(deno, "info", "--json"))["npmCache"])


def _library(npm_cache: Path, major: int) -> Library:
    specifier: str = json.loads(CONFIG.read_text())["imports"][f"xstate{major}"]
    version = specifier.removeprefix("npm:xstate@")
    package = next(npm_cache.glob(f"*/xstate/{version}"), None)
    if package is None:
        raise BuildFailed(f"xstate {version} is not in {npm_cache}")
    files = _files4(package) if major == 4 else _files5(package)
    return Library(major, version, files)


def _files4(package: Path) -> dict[str, Path]:
    """lib/<name> is CommonJS and a second copy: every name leads to the ES module of the same name."""
    files = {"": package / "es" / "index.js"}
    for module in sorted((package / "es").glob("*.js")):
        for folder in ("lib", "es"):
            files[f"{folder}/{module.stem}"] = files[f"{folder}/{module.name}"] = module
    return files


def _files5(package: Path) -> dict[str, Path]:
    entries = {name: package / "dist" / f"xstate-{name}.esm.js" for name in XSTATE5_ENTRIES}
    return {"": package / "dist" / "xstate.esm.js", **entries}


def _builtin_modules(deno: str) -> list[str]:
    """Deno also resolves names that it does not list, so its binary is searched for more."""
    code = "import { builtinModules } from 'node:module'; console.log(JSON.stringify(builtinModules))"
    listed: list[str] = json.loads(_run(deno, "eval", "--no-config", "--no-lock", code))
    held = re.findall(rb"node:([A-Za-z_][A-Za-z0-9_/]{1,40})", Path(deno).read_bytes())
    return sorted({name.removeprefix("node:") for name in listed} | {name.decode() for name in held})


def _entry(file: Path) -> str:
    return f"{file.stem.removesuffix('.esm')}.js"


def _bundle(deno: str, library: Library, scratch: Path) -> Path:
    """One run with code splitting, so that the worker and machine code share one copy of XState."""
    sources = scratch / "entries"
    sources.mkdir()
    for file in set(library.files.values()):
        (sources / _entry(file)).write_text(f"export * from {json.dumps(file.as_uri())};\n")
    imports = {f"xstate{library.major}": library.files[""].as_uri()}
    imports |= {f"npm:xstate@{library.version}": library.files[""].as_uri()}
    for name, file in library.files.items():
        if name:
            imports[f"xstate{library.major}/{name}"] = file.as_uri()
            imports[f"npm:xstate@{library.version}/{name}"] = file.as_uri()
    (scratch / "map.json").write_text(json.dumps({"imports": imports}))
    entry = (JS / f"boot{library.major}.ts").read_text()
    (sources / "boot.ts").write_text(entry.replace('from "./', f'from "{JS.as_uri()}/'))
    output = scratch / "out"
    flags = ["--quiet", "--no-config", "--no-lock", "--import-map", str(scratch / "map.json")]
    flags += ["--platform", "browser", "--code-splitting", "--external", ASYNC_HOOKS]
    _run(deno, "bundle", *flags, "--outdir", str(output), *map(str, sorted(sources.iterdir())))
    return output


def _link(output: Path, library: Library) -> None:
    """Only what the entry imports statically may be read by a process without permissions."""
    boot = output / "boot.js"
    entries = sorted({_entry(file) for file in library.files.values()})
    imports = "".join(f'import "./{entry}";\n' for entry in entries)
    boot.write_text(imports + boot.read_text())


# What XState throws in place of what a guard threw, and the same with the original as its cause: the only
# thing that tells where in machine code it was thrown.
_GUARD_ERRORS = {
    4: (
        '(this.id, "\':\\n").concat(err.message))',
        '(this.id, "\':\\n").concat(err.message), { cause: err })',
    ),
    5: ("\n${err.message}`)", "\n${err.message}`, { cause: err })"),
}


def _keep_causes(output: Path, library: Library) -> None:
    """Nothing else in XState is changed. Raises BuildFailed when the place is not found."""
    found, wanted = _GUARD_ERRORS[library.major]
    count = 0
    for file in output.glob("*.js"):
        text = file.read_text()
        if found in text and "Unable to evaluate guard" in text:
            count += text.count(found)
            file.write_text(text.replace(found, wanted))
    if count != 1:
        raise BuildFailed(
            f"XState {library.version} reports errors of guards in another way: see _GUARD_ERRORS"
        )


def _names(library: Library, subpath: str) -> list[str]:
    """The ways to write an import of a subpath of this major."""
    major, version = library.major, library.version
    packages = ["xstate", "npm:xstate"]
    packages += [f"npm:xstate@{wanted}" for wanted in (major, f"^{major}", version, f"^{version}")]
    return [f"{package}/{subpath}" if subpath else package for package in packages]


def _import_map(library: Library, other: Library, builtins: list[str]) -> dict[str, object]:
    """What is not ours to give leads to files that do not exist: machine code may not read any."""
    imports: dict[str, str] = {}
    for subpath in other.files:
        for name in _names(other, subpath):
            imports[name] = f"./other-major/{quote(name)}.js"
    for subpath, file in library.files.items():
        for name in _names(library, subpath):
            imports[name] = f"./{_entry(file)}"
    for name in (*builtins, *(f"node:{name}" for name in builtins)):
        imports[name] = f"./not-available/{quote(name)}.js"
    return {"imports": imports, "scopes": {"./": {ASYNC_HOOKS: ASYNC_HOOKS}}}


if __name__ == "__main__":
    try:
        build()
    except BuildFailed as failure:
        sys.exit(f"build_worker: {failure}")
