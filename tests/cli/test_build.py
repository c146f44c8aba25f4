"""Bundling with the real deno, in folders as people have them."""

import base64
import json
import re
from pathlib import Path

import pytest
from tests.cli.conftest import Smply
from tests.cli.fake_server import FakeServer
from tests.cli.machine_texts import AUTHORIZERS, JAVASCRIPT, XSTATE_4, XSTATE_5
from tests.cli.npm_folders import REPOSITORY, deno_environment, npm_folder

from statebacked.cli.build import Bundle, build, exported_names, read_js
from statebacked.cli.errors import BuildError

pytestmark = pytest.mark.worker


def imports_of(bundle: Bundle) -> set[str]:
    return set(re.findall(r'from"([^"]+)"', bundle.code.decode()))


def installed(folder: Path, package: str) -> str:
    version = json.loads((folder / "node_modules" / package / "package.json").read_text())["version"]
    assert isinstance(version, str)
    return version


def bundle(folder: Path, text: str, name: str = "example-machine.ts") -> Bundle:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return build(file, env=deno_environment())


def failure(folder: Path, text: str, name: str = "example-machine.ts") -> str:
    with pytest.raises(BuildError) as failed:
        bundle(folder, text, name)
    return str(failed.value)


@pytest.fixture
def folder5(pytestconfig: pytest.Config, tmp_path: Path) -> Path:
    return npm_folder(pytestconfig, tmp_path / "app5", "xstate", "@statebacked/machine")


@pytest.fixture
def folder4(pytestconfig: pytest.Config, tmp_path: Path) -> Path:
    return npm_folder(pytestconfig, tmp_path / "app4", "xstate@4", "@statebacked/machine")


def test_the_quick_starts_folder_builds_with_its_xstate_5(folder5: Path) -> None:
    built = bundle(folder5, XSTATE_5)

    assert built.hint == {"xstate": installed(folder5, "xstate")}
    assert installed(folder5, "xstate").startswith("5.")
    assert imports_of(built) == {"xstate"}
    assert len(built.code) < 2_000
    assert exported_names(built.code.decode()) == {"default", "allowRead", "allowWrite"}
    assert (built.warnings, built.files) == ((), (folder5 / "example-machine.ts",))


def test_a_folder_with_xstate_4_builds_for_xstate_4(folder4: Path) -> None:
    built = bundle(folder4, XSTATE_4)

    assert built.hint == {"xstate": installed(folder4, "xstate")}
    assert installed(folder4, "xstate").startswith("4.")
    assert imports_of(built) == {"xstate"}


def test_a_modules_folder_without_a_package_json_names_the_version(folder4: Path) -> None:
    (folder4 / "package.json").unlink()
    built = bundle(folder4, JAVASCRIPT, "example-machine.js")
    assert built.hint == {"xstate": installed(folder4, "xstate")}


def test_the_other_majors_machine_does_not_type_check(folder4: Path) -> None:
    assert "example-machine.ts:2:18 TS2305: Module" in failure(folder4, XSTATE_5)


def test_a_modules_folder_far_above_is_the_files_own(folder5: Path) -> None:
    built = bundle(folder5, XSTATE_5, "src/machines/toggler.ts")
    assert built.hint == {"xstate": installed(folder5, "xstate")}


def test_javascript_builds_in_a_folder_that_npm_calls_commonjs(folder5: Path) -> None:
    package = json.loads((folder5 / "package.json").read_text())
    (folder5 / "package.json").write_text(json.dumps({**package, "type": "commonjs"}))

    assert imports_of(bundle(folder5, JAVASCRIPT, "example-machine.js")) == {"xstate"}


@pytest.mark.parametrize(
    ("file", "xstate"),
    [
        ("toggler/toggler.ts", "5.33.3"),
        ("toggler/toggler.js", "5.33.3"),
        ("order/order.ts", "5.33.3"),
        ("toggler-xstate4/toggler.ts", "4.38.3"),
        ("toggler-xstate4/toggler.js", "4.38.3"),
    ],
)
def test_the_examples_build_where_nobody_ran_npm(file: str, xstate: str) -> None:
    built = build(REPOSITORY / "examples" / file, env=deno_environment())

    assert built.hint == {"xstate": xstate}
    assert (imports_of(built), built.warnings) == ({"xstate"}, ())


def test_an_empty_folder_builds_with_what_npm_would_bring(tmp_path: Path) -> None:
    built = bundle(tmp_path, XSTATE_5)

    assert built.xstate is not None
    assert built.xstate.startswith("5.")
    assert [path.name for path in tmp_path.iterdir()] == ["example-machine.ts"]


def test_a_lock_file_names_the_version_where_nobody_ran_npm(folder5: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    locked = json.loads((folder5 / "package-lock.json").read_text())
    locked["packages"]["node_modules/xstate"]["version"] = "5.20.0"
    (copy / "package-lock.json").write_text(json.dumps(locked))
    (copy / "package.json").write_bytes((folder5 / "package.json").read_bytes())

    assert bundle(copy, XSTATE_5).hint == {"xstate": "5.20.0"}


def test_an_npm_specifier_names_the_version(tmp_path: Path) -> None:
    text = XSTATE_5.replace('"xstate"', '"npm:xstate@5.33.3"') + (
        'import { not } from "npm:xstate@5.33.3/guards"; export const unused = not;\n'
        'export const later = () => import("npm:xstate@5.33.3/actions");\n'
    )
    built = bundle(tmp_path, text.replace('"@statebacked/machine"', '"npm:@statebacked/machine"'))

    assert built.hint == {"xstate": "5.33.3"}
    assert imports_of(built) == {"xstate", "xstate/guards"}
    assert 'import("xstate/actions"' in built.code.decode()


def test_two_versions_of_xstate_are_refused(folder5: Path) -> None:
    told = failure(folder5, 'import "npm:xstate@5.20.0";\n' + XSTATE_5)

    assert "several versions of xstate" in told
    assert "5.20.0" in told


def test_imports_without_extension_and_of_json_go_in(folder5: Path) -> None:
    (folder5 / "lib").mkdir()
    (folder5 / "lib" / "index.ts").write_text('export const fromIndex: string = "from-index";')
    (folder5 / "lib" / "other.ts").write_text('export const other: string = "from-other";')
    (folder5 / "data.json").write_text('{"text": "from-json"}')
    text = (
        'import { fromIndex } from "./lib";\nimport { other } from "./lib/other";\n'
        'import data from "./data.json";\nexport const used = [fromIndex, other, data.text];\n' + XSTATE_5
    )
    built = bundle(folder5, text)

    code = built.code.decode()
    assert all(text in code for text in ("from-index", "from-other", "from-json"))
    assert {path.name for path in built.files} == {
        "example-machine.ts",
        "index.ts",
        "other.ts",
        "data.json",
    }


def test_node_env_is_production(folder5: Path) -> None:
    text = JAVASCRIPT + "export const mode = process.env.NODE_ENV;\n"
    code = bundle(folder5, text, "example-machine.js").code.decode()

    assert '"production"' in code
    assert "process" not in code


def test_the_same_source_is_the_same_bundle(folder5: Path) -> None:
    assert bundle(folder5, XSTATE_5).code == bundle(folder5, XSTATE_5).code


def test_a_type_error_names_file_and_line(folder5: Path) -> None:
    told = failure(folder5, XSTATE_5 + 'const count: number = "one";\nexport { count };\n')

    line = XSTATE_5.count("\n") + 1
    assert f"example-machine.ts:{line}:7 TS2322: Type 'string' is not assignable to type 'number'." in told
    assert 'const count: number = "one";' in told


def test_skipping_validation_uploads_in_spite_of_type_errors(folder5: Path) -> None:
    file = folder5 / "example-machine.ts"
    file.write_text('const count: number = "one";\nexport default count;\n')

    assert b"one" in build(file, env=deno_environment(), skips_validation=True).code


def test_a_missing_package_of_types_is_a_warning(folder5: Path) -> None:
    built = bundle(
        folder5, 'import type { A } from "not-installed";\nexport const a = (b: A) => b;\n' + XSTATE_5
    )

    assert len(built.warnings) == 1
    assert "no types for not-installed (example-machine.ts:1:24)" in built.warnings[0]


def test_a_package_without_types_goes_in(folder5: Path) -> None:
    package = folder5 / "node_modules" / "untyped"
    package.mkdir()
    (package / "package.json").write_text('{"name": "untyped", "version": "1.0.0"}')
    (package / "index.js").write_text("module.exports = { value: 'from-untyped' };")
    manifest = json.loads((folder5 / "package.json").read_text())
    manifest["dependencies"]["untyped"] = "1.0.0"
    (folder5 / "package.json").write_text(json.dumps(manifest))

    built = bundle(folder5, 'import untyped from "untyped";\nexport const u = untyped.value;\n' + XSTATE_5)
    assert b"from-untyped" in built.code


def test_a_missing_package_names_the_import_and_the_cure(folder5: Path) -> None:
    told = failure(folder5, 'import pad from "left-pad-x";\nexport const p = pad;\n' + XSTATE_5)

    assert 'example-machine.ts:1:17: Import "left-pad-x" not a dependency' in told
    assert "npm install left-pad-x" in told
    assert "as external" not in told


def test_a_missing_file_names_the_import(folder5: Path) -> None:
    assert "example-machine.ts:1:19: Cannot read file" in failure(
        folder5, 'import { x } from "./nowhere";\nexport { x };\n' + XSTATE_5
    )


def test_a_syntax_error_names_its_place(folder5: Path) -> None:
    told = failure(folder5, "export default (;\n")

    assert "Expression expected" in told
    assert "example-machine.ts:1:17" in told


def test_a_node_module_is_named_with_its_line(folder5: Path) -> None:
    told = failure(folder5, 'import { readFileSync } from "node:fs";\nexport { readFileSync };\n' + XSTATE_5)

    assert "example-machine.ts:1:30: a machine cannot import node:fs" in told


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("export default {};\n" + AUTHORIZERS.replace("const allowWrite", "const mayWrite"), "allowWrite"),
        (AUTHORIZERS, "default"),
        (
            "const allowRead = () => true; export default { allowRead, n: 'allowWrite' };\n",
            "allowRead and allowWrite",
        ),
    ],
)
def test_what_a_machine_must_export_is_named(folder5: Path, text: str, missing: str) -> None:
    assert f"does not export {missing}:" in failure(
        folder5, text.replace("AllowWrite as mayWrite", "AllowWrite")
    )


@pytest.mark.parametrize("name", ["machine.py", "nowhere.ts"])
def test_a_file_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "machine.py").write_text("")
    with pytest.raises(BuildError, match=name):
        build(tmp_path / name, env=deno_environment())


def test_the_projects_npmrc_names_the_registry_and_a_dead_one_is_told(folder5: Path, tmp_path: Path) -> None:
    (folder5 / ".npmrc").write_text("registry=http://127.0.0.1:9/\n")
    (folder5 / "m.js").write_text(JAVASCRIPT)
    empty = {**deno_environment(), "DENO_DIR": str(tmp_path / "empty")}
    empty.pop("NPM_CONFIG_REGISTRY", None)

    with pytest.raises(BuildError) as failed:
        build(folder5 / "m.js", env=empty)
    assert "cannot fetch http://127.0.0.1:9/" in str(failed.value)
    assert ".npmrc" in str(failed.value)


def test_create_from_typescript_uploads_the_bundle_and_the_hint(
    smply: Smply, server: FakeServer, folder5: Path
) -> None:
    (folder5 / "example-machine.ts").write_text(XSTATE_5)
    smply.sign_in()
    smply.folder = folder5
    smply.sign_in()
    smply.env["DENO_DIR"] = deno_environment()["DENO_DIR"]
    outcome = smply("machines", "create", "--machine", "example-machine", "--node", "./example-machine.ts")

    assert outcome.json == {"name": "example-machine", "currentVersion": {"machineVersionId": "ver_1"}}
    assert server.bodies("POST /machines/example-machine/v") == [{"xstate": installed(folder5, "xstate")}]
    assert server.uploads[0].code == build(folder5 / "example-machine.ts", env=deno_environment()).module


def test_a_source_map_is_uploaded_unless_it_is_not_wanted(
    smply: Smply, server: FakeServer, folder5: Path
) -> None:
    (folder5 / "src").mkdir()
    (folder5 / "src" / "m.js").write_text(JAVASCRIPT)
    smply.folder = folder5
    smply.sign_in()
    smply.env["DENO_DIR"] = deno_environment()["DENO_DIR"]
    create = ("machines", "create", "--machine", "m", "--node", "src/m.js")
    assert smply(*create).code == 0
    assert smply(*create, "--no-source-map").code == 0

    with_map, without = (upload.code.decode() for upload in server.uploads)
    code, _, encoded = with_map.partition("\n//# sourceMappingURL=data:application/json;base64,")
    assert without.rstrip() == code
    source_map = json.loads(base64.b64decode(encoded))
    assert source_map["sources"] == [
        "src/m.js"
    ]  # within the project, whose package.json is in the folder above
    assert set(source_map) == {"version", "sources", "names", "mappings"}
    assert set(source_map["names"]) <= {""}


def test_a_source_map_that_is_too_large_is_left_out_with_a_warning(tmp_path: Path) -> None:
    lines = "\n".join(f"export const n{number} = () => allowRead({number});" for number in range(60_000))
    built = bundle(tmp_path, JAVASCRIPT + lines, "m.js")
    assert built.source_map is None
    assert built.module == built.code
    assert any("source map is too large" in warning for warning in built.warnings)


def test_a_type_error_leaves_no_machine_behind(smply: Smply, server: FakeServer, folder5: Path) -> None:
    (folder5 / "m.ts").write_text(XSTATE_5 + "export const n: number = '';\n")
    smply.env["DENO_DIR"] = deno_environment()["DENO_DIR"]
    outcome = smply("machines", "create", "--machine", "m", "--node", str(folder5 / "m.ts"))

    assert outcome.code == 1
    assert "TS2322" in outcome.err
    assert server.requests == []


@pytest.mark.parametrize(
    ("files", "xstate"),
    [
        ({"package.json": '{"dependencies": {"xstate": "^5.33.3"}}'}, "5.33.3"),
        ({"package.json": '{"devDependencies": {"xstate": "4"}}'}, "4.0.0"),
        ({"package.json": '{"peerDependencies": {"xstate": ">=4.38 <5"}}'}, "4.38.0"),
        ({"package.json": '{"dependencies": {"xstate": "latest"}}'}, None),
        ({"package.json": "{}"}, None),
        ({}, None),
        (
            {
                "package.json": '{"dependencies": {"xstate": "^5"}}',
                "node_modules/xstate/package.json": '{"name": "xstate", "version": "5.19.2"}',
            },
            "5.19.2",
        ),
        (
            {
                "package.json": '{"dependencies": {"xstate": "^5"}}',
                "package-lock.json": '{"packages": {"node_modules/xstate": {"version": "5.20.0"}}}',
            },
            "5.20.0",
        ),
    ],
)
def test_a_bundled_file_is_for_the_xstate_of_the_package_it_stands_in(
    tmp_path: Path, files: dict[str, str], xstate: str | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    file = tmp_path / "dist" / "machine.js"
    file.parent.mkdir()
    file.write_text(JAVASCRIPT)
    assert read_js(file).xstate == xstate
