"""From a machine's file to the one module that is uploaded.

xstate is left out of the bundle: the server links the version that the file means. Everything else goes in.
The server validates for real, in a sandbox; what is checked here is what can be said sooner and with a line
number.
"""

import gzip
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from statebacked.cli.deno_tool import Finished, run_deno, start_deno
from statebacked.cli.errors import BuildError
from statebacked.cli.resolve import Resolution, resolve, xstate_beside
from statebacked.cli.source_maps import SOURCE_MAP_BYTES_MAX, comment_of, source_map_of, split
from statebacked.cli.typecheck import Verdict, judge

__all__ = ["MACHINE", "MIGRATION", "Bundle", "Kind", "build", "read_js"]

TYPED_SUFFIXES = frozenset({".ts", ".tsx", ".mts"})
SOURCE_SUFFIXES = TYPED_SUFFIXES | {".js", ".jsx", ".mjs"}

_EXPORT_CLAUSE = re.compile(r"export\s*\{([^{}]*)\}")
# The statement forms in which the bundler leaves an import of `npm:xstate@5.33.3/guards`.
_NPM_XSTATE = re.compile(r'(\bfrom\s*|\bimport\s*\(?\s*)"npm:/?xstate(?:@[^"/]*)?((?:/[^"]*)?)"')
_IMPORT_ERROR = re.compile(
    r"^error: (?P<text>(?!SyntaxError)[^\n]+)\n\s+at (?P<place>\S+):(?P<column>\d+)$", re.MULTILINE
)
# What the bundler advises is not to be had here: a bundle has all its packages in it.
_ADVICE = re.compile(r"\n +note: You can mark the path [^\n]* as external[^\n]*")
_MISSING = re.compile(r'Import "([^"]+)" not a dependency')


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file must export, and how to say it."""

    exports: tuple[str, ...]
    description: str


MACHINE = Kind(
    ("default", "allowRead", "allowWrite"),
    "a machine's file has the machine as its default export, and the functions allowRead and allowWrite",
)
MIGRATION = Kind(
    ("upgradeState",),
    "a migration's file exports the function upgradeState, and upgradeContext where the context changes",
)


# What a server takes (docs/reference/limits.md): a source map must not be the reason why code is refused.
_GZIPPED_BYTES_MAX = 1_000_000
_BYTES_MAX = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """`code` is the module's text; `xstate` the exact version it was written for, None when nothing tells;
    `source_map` leads from places in the code to places in the source, JSON."""

    code: bytes
    xstate: str | None = None
    source_map: bytes | None = None
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def module(self) -> bytes:
        """What is uploaded: the code, and its source map as the last line."""
        return self.code if self.source_map is None else self.code.rstrip() + comment_of(self.source_map)

    @property
    def hint(self) -> dict[str, str] | None:
        """The body of POST /v."""
        return None if self.xstate is None else {"xstate": self.xstate}


def build(
    file: Path,
    *,
    env: Mapping[str, str],
    skips_validation: bool = False,
    kind: Kind = MACHINE,
    has_source_map: bool = True,
) -> Bundle:
    """Bundles `file` with what it imports, and checks its types meanwhile. Raises BuildError, CliError."""
    file = file.resolve()
    if not file.is_file():
        raise BuildError(f"there is no file {file}")
    if file.suffix not in SOURCE_SUFFIXES:
        raise BuildError(f"{file.name} is neither TypeScript nor JavaScript (.ts, .js)")
    resolution = resolve(file, env)
    try:
        code, source_map, warnings = _bundled(
            file, resolution, env, skips_validation=skips_validation, has_source_map=has_source_map
        )
        if not skips_validation:
            _require_exports(exported_names(code), file, kind)
    except BuildError as exc:
        exc.files = resolution.files
        raise
    bundle = Bundle(
        code=code.encode(),
        xstate=resolution.xstate,
        source_map=source_map,
        warnings=warnings,
        files=resolution.files,
    )
    return _with_a_map_that_fits(bundle)


def _bundled(
    file: Path,
    resolution: Resolution,
    env: Mapping[str, str],
    *,
    skips_validation: bool,
    has_source_map: bool,
) -> tuple[str, bytes | None, tuple[str, ...]]:
    """Code, source map and warnings. Raises BuildError, CliError."""
    with tempfile.TemporaryDirectory(prefix="smply-") as folder:
        output = Path(folder) / "machine.js"
        bundling = start_deno(_bundle_arguments(file, resolution.flags, output), folder=file.parent, env=env)
        verdict = Verdict(errors=(), warnings=())
        try:
            if not skips_validation and any(source.suffix in TYPED_SUFFIXES for source in resolution.files):
                checking = ["check", "--quiet", *resolution.flags, file.name]
                verdict = judge(run_deno(start_deno(checking, folder=file.parent, env=env)), file.parent)
        finally:
            bundled = run_deno(bundling)
        if bundled.code != 0 or not output.is_file():
            raise BuildError(_bundling_failed(bundled, file))
        code = _NPM_XSTATE.sub(_plain_xstate, output.read_text(encoding="utf-8"))
        source_map = source_map_of(output.with_name("machine.js.map"), file) if has_source_map else None
    if verdict.errors:
        raise BuildError("\n".join([f"{file.name} has type errors", *verdict.errors]))
    return code, source_map, verdict.warnings


def _plain_xstate(found: re.Match[str]) -> str:
    """As long as it was, so that the source map is right about what comes after it."""
    plain = f'{found[1]}"xstate{found[2]}"'
    return plain + " " * (len(found[0]) - len(plain))


def _with_a_map_that_fits(bundle: Bundle) -> Bundle:
    """Without the source map, and with a warning, where a server would refuse the code for its size."""
    if bundle.source_map is None:
        return bundle
    is_large = len(bundle.module) > _BYTES_MAX or len(bundle.source_map) > SOURCE_MAP_BYTES_MAX
    # Gzip never takes a tenth of a percent more than it is given.
    if not is_large and len(bundle.module) > _GZIPPED_BYTES_MAX * 0.99:
        is_large = len(gzip.compress(bundle.module)) > _GZIPPED_BYTES_MAX
    if not is_large:
        return bundle
    told = "the source map is too large to be uploaded: errors will name places in the bundle"
    return replace(bundle, source_map=None, warnings=(*bundle.warnings, told))


def read_js(
    file: Path, *, skips_validation: bool = False, kind: Kind = MACHINE, has_source_map: bool = True
) -> Bundle:
    """A module that the caller has bundled, byte for byte but for the source map: one in a file beside it
    comes along, and none is left when `has_source_map` is False. `xstate` is what the package around it
    names. Raises BuildError."""
    try:
        code = file.read_bytes()
    except OSError as exc:
        raise BuildError(f"cannot read {file}: {exc.strerror}") from exc
    if not skips_validation:
        # No parser here: a name that occurs nowhere is certainly not exported, and the server looks closely.
        words = set(re.findall(r"\w+", code.decode("utf-8", errors="replace")))
        _require_exports(words, file, kind)
    bare, said = split(code)
    xstate = xstate_beside(file.resolve())
    if said is None or (has_source_map and said.startswith("data:")):
        return Bundle(code=code, xstate=xstate, files=(file,))
    written = file.parent / unquote(said)
    source_map = source_map_of(written, file) if has_source_map and written.is_file() else None
    return _with_a_map_that_fits(Bundle(code=bare, xstate=xstate, source_map=source_map, files=(file,)))


def exported_names(code: str) -> set[str]:
    """The names of the bundler's export clause, `export{a as allowRead,b as default}`."""
    names: set[str] = set()
    for clause in _EXPORT_CLAUSE.findall(code):
        names |= {part.split(" as ")[-1].strip() for part in clause.split(",")}
    return names


def _require_exports(names: set[str], file: Path, kind: Kind) -> None:
    missing = [name for name in kind.exports if name not in names]
    if missing:
        raise BuildError(f"{file.name} does not export {' and '.join(missing)}: {kind.description}")


def _bundle_arguments(file: Path, flags: tuple[str, ...], output: Path) -> list[str]:
    # Minifying for a browser also makes process.env.NODE_ENV the constant "production".
    kind = ("--platform", "browser", "--minify", "--keep-names")
    external = ("--external", "xstate", "--external", "npm:xstate*", "--external", "npm:/xstate*")
    return [
        "bundle",
        "--quiet",
        "--sourcemap=external",
        *flags,
        *kind,
        *external,
        "--output",
        str(output),
        file.name,
    ]


def _bundling_failed(bundled: Finished, file: Path) -> str:
    text = bundled.err.replace(file.parent.as_uri() + "/", "").replace("file://", "")
    text = _IMPORT_ERROR.sub(_import_error, text).replace("\nerror: bundling failed", "")
    text = _ADVICE.sub("", text)
    missing = [
        name for name in dict.fromkeys(_MISSING.findall(bundled.err)) if not name.startswith((".", "/"))
    ]
    if missing:
        text += f"\nA package that is not installed here: npm install {' '.join(missing)}"
    return f"{file.name} cannot be bundled\n{text.removeprefix('error: ')}"


def _import_error(found: re.Match[str]) -> str:
    """Place first, as in a type error. The bundler counts columns from 0 here, the type checker from 1."""
    return f"{found['place']}:{int(found['column']) + 1}: {found['text']}"
