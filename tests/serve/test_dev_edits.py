"""`statebacked dev` never misses an edit: what was saved last is what ends up deployed, or its error is told.

The edits are made at each moment of a deployment: when the bundler, the type checker and the search for
imports begin and end (real processes, by way of a deno that edits), at each request to the server, and while
dev waits.
"""

import asyncio
import contextlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.cli.fake_server import URL, FakeServer
from tests.cli.npm_folders import deno_environment

from statebacked.cli.api import Api
from statebacked.cli.build import Bundle, build
from statebacked.cli.credentials import Credentials
from statebacked.cli.deno_tool import find_deno
from statebacked.serve.dev_plan import DevFile
from statebacked.serve.dev_workshop import Workshop

pytestmark = pytest.mark.worker

SIGNED_IN = Credentials(url=URL, token="sbs_admin", org="org_1", source="test")
ENTRY = """
import { createMachine } from "xstate";
import { mark } from "../lib/mark.SUFFIX";
export const allowRead = () => mark !== "";
export const allowWrite = allowRead;
export default createMachine({ initial: "off", states: { off: {} } });
"""
MARKED = 'export const mark = String("MARK");\n'
OF_DENO = [f"{command} {end}" for command in ("info", "bundle", "check") for end in ("begin", "end")]
OF_REQUESTS = [
    "GET /machines/toggler",
    "POST /machines",
    "POST /machines/toggler/v",
    "POST /uploads/1",
    "PUT /machines/toggler/v/signed.id",
    "GET /machines/toggler/i",
]
MOMENTS = [*OF_DENO, "build begin", "build end", *OF_REQUESTS, "pause"]

# A deno that makes the edit when it is called for the command that is named in the file `at`.
DENO = """#!/bin/sh
moment() {{
  if [ "$(cat {folder}/at 2>/dev/null)" = "$1" ]; then rm {folder}/at; sh {folder}/edit.sh; fi
}}
moment "$1 begin"
{deno} "$@"
code=$?
moment "$1 end"
exit $code
"""


class Bench:
    """A workshop with one machine, a server that remembers what is current, and an edit that is to come."""

    def __init__(self, folder: Path, suffix: str = ".ts") -> None:
        self.server = FakeServer()
        self.hooks = folder / "hooks"
        self.entry = folder / "app" / "src" / f"machine{suffix}"
        self.lib = folder / "app" / "lib" / f"mark{suffix}"
        for made in (self.hooks, self.entry.parent, self.lib.parent):
            made.mkdir(parents=True)
        self.entry.write_text(ENTRY.replace(".SUFFIX", suffix))
        self.save("first")
        self.moment = ""
        self.edit: Callable[[], None] = lambda: None
        self.builds = 0
        self.failures: list[Exception] = []
        self.idle_at = -1
        deno = self.hooks / "deno"
        env = deno_environment()
        text = DENO.format(folder=shlex.quote(str(self.hooks)), deno=shlex.quote(find_deno(env)))
        deno.write_text(text)
        deno.chmod(0o755)
        self.env = {**env, "STATEBACKED_DENO": str(deno)}
        for route in OF_REQUESTS:
            self.server.answers[route] = self.answer
        self.current: str | None = None

    # --- saving

    def save(self, mark: str) -> None:
        """As most editors do: another file takes the name."""
        self.replace(self.lib, MARKED.replace("MARK", mark))

    def replace(self, file: Path, text: str) -> None:
        beside = file.with_name(f"{file.name}~")
        beside.write_text(text)
        beside.rename(file)

    # --- moments

    def when(self, moment: str, edit: Callable[[], None], shell: str = "") -> None:
        """`shell` does what `edit` does, for the moments of deno."""
        self.edit = edit
        if moment not in OF_DENO:
            self.moment = moment
        else:
            (self.hooks / "edit.sh").write_text(shell)
            (self.hooks / "at").write_text(moment)

    def reach(self, moment: str) -> None:
        if moment == self.moment:
            self.moment = ""
            self.edit()

    def answer(self, request: httpx.Request) -> httpx.Response:
        route = f"{request.method} {request.url.path}"
        self.reach(route)
        if route == "GET /machines/toggler" and self.current is not None:
            return httpx.Response(200, json={"currentVersion": {"id": "ver_1", "clientInfo": self.current}})
        if route == "GET /machines/toggler/i":
            return httpx.Response(200, json={"instances": []})
        if route.startswith("PUT"):
            body = self.server.bodies(route)[-1]
            assert isinstance(body, dict)
            self.current = body["clientInfo"]
        del self.server.answers[route]
        try:
            transport = self.server.transport()
            assert transport is not None
            return transport.handle_request(request)
        finally:
            self.server.answers[route] = self.answer
            self.server.requests.pop()

    def build(self, dev_file: DevFile) -> Bundle:
        self.builds += 1
        if self.failures:
            raise self.failures.pop()
        self.reach("build begin")
        try:
            return build(dev_file.file, env=self.env)
        finally:
            self.reach("build end")

    async def pause(self) -> None:
        if self.idle_at == self.builds:
            assert not self.moment, "the moment never came"
            self._is_idle.set()
        self.idle_at = self.builds
        self.reach("pause")
        await asyncio.sleep(0)

    # --- running

    async def run(self, *moments: tuple[str, Callable[[], None]]) -> None:
        """Develops until nothing is left to do; then makes each edit, and waits again."""
        self._is_idle = asyncio.Event()
        files = [DevFile(machine="toggler", file=self.entry)]
        workshop = Workshop(
            files,
            lambda: Api(SIGNED_IN, transport=self.server.transport()),
            self.build,
            pause=self.pause,
        )
        watching = asyncio.create_task(workshop.watch())
        try:
            await self._settle(watching)
            for moment, edit in moments:
                self.when(moment, edit)
                await self._settle(watching)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def _settle(self, watching: "asyncio.Task[None]") -> None:
        self._is_idle.clear()
        self.idle_at = -1
        settled = asyncio.create_task(self._is_idle.wait())
        await asyncio.wait({settled, watching}, return_when=asyncio.FIRST_COMPLETED)
        assert settled.done(), watching.exception()

    @property
    def deployed(self) -> str:
        return self.server.uploads[-1].code.decode()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_edit_at_any_moment_of_the_first_deployment_ends_up_deployed(tmp_path: Path, moment: str) -> None:
    # Types are checked where that is what the test is about: it takes long.
    bench = Bench(tmp_path, ".ts" if moment.startswith("check") else ".js")
    last = bench.hooks / "last.ts"
    last.write_text(MARKED.replace("MARK", "last save"))
    bench.when(
        moment,
        lambda: bench.save("last save"),
        f"mv {shlex.quote(str(last))} {shlex.quote(str(bench.lib))}",
    )
    asyncio.run(bench.run())

    assert not (bench.hooks / "at").exists()  # the moment came
    assert '"last save"' in bench.deployed
    assert '"last save"' in bench.lib.read_text()


def broken(bench: Bench) -> None:
    bench.replace(bench.lib, 'export const mark = "broken;\n')


def test_a_broken_edit_during_a_deployment_is_told_and_the_good_one_after_it_deployed(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.when("PUT /machines/toggler/v/signed.id", lambda: broken(bench))
    asyncio.run(bench.run())
    assert "toggler: not deployed: " in capsys.readouterr().err
    assert '"first"' in bench.deployed

    asyncio.run(bench.run(("pause", lambda: bench.save("good again"))))
    assert '"good again"' in bench.deployed


def deleted_and_made_again(bench: Bench) -> None:
    bench.lib.unlink()
    bench.lib.write_text(MARKED.replace("MARK", "made again"))


def in_place(bench: Bench) -> None:
    bench.lib.write_text(MARKED.replace("MARK", "made again"))


def of_the_same_size_and_time(bench: Bench) -> None:
    found = bench.lib.stat()
    bench.lib.write_text(bench.lib.read_text().replace("first", "again"))
    os.utime(bench.lib, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("edit", [deleted_and_made_again, in_place, of_the_same_size_and_time])
def test_however_a_file_is_saved_it_is_seen(bench: Bench, edit: Callable[[Bench], None]) -> None:
    asyncio.run(bench.run(("pause", lambda: edit(bench))))
    assert "again" in bench.deployed


def test_a_deleted_file_is_told_and_taken_when_it_is_back(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    text = bench.entry.read_text()
    asyncio.run(bench.run(("pause", bench.entry.unlink)))
    assert f"not deployed: there is no file {bench.entry}" in capsys.readouterr().err

    asyncio.run(bench.run(("pause", lambda: bench.replace(bench.entry, text + 'console.log("back");'))))
    assert '"back"' in bench.deployed


def test_a_file_that_is_imported_and_appears_later_is_taken(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    later = bench.entry.parent / "new" / "deep" / "later.ts"
    bench.entry.write_text(
        bench.entry.read_text() + 'import { later } from "./new/deep/later.ts"; console.log(later);\n'
    )

    def appear() -> None:
        later.parent.mkdir(parents=True)
        later.write_text('export const later = "has appeared";\n')

    asyncio.run(bench.run(("pause", appear)))
    assert "toggler: not deployed: " in capsys.readouterr().err
    assert '"has appeared"' in bench.deployed


def test_an_edit_of_how_types_are_checked_is_an_edit(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.entry.write_text(
        bench.entry.read_text() + "export const later = (x: string | undefined): string => x;\n"
    )

    def relax() -> None:
        (bench.entry.parents[1] / "deno.json").write_text('{"compilerOptions": {"strict": false}}')

    asyncio.run(bench.run())
    assert "TS2322" in capsys.readouterr().err
    assert bench.server.uploads == []
    asyncio.run(bench.run(("pause", relax)))
    assert len(bench.server.uploads) == 1


def test_what_the_server_did_not_take_is_tried_again(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(bench.run())
    refusals = [httpx.Response(503, json={"code": "unavailable", "error": "busy", "requestId": "r"})] * 2

    def refuse(request: httpx.Request) -> httpx.Response:
        if refusals:
            return refusals.pop()
        return bench.answer(request)

    bench.server.answers["POST /machines/toggler/v"] = refuse
    bench.save("second")
    asyncio.run(bench.run())
    assert '"second"' in bench.deployed
    assert capsys.readouterr().err.count("busy (503") == 1


def test_a_failure_that_nobody_foresaw_does_not_end_the_watching(bench: Bench) -> None:
    bench.failures.append(KeyError("unforeseen"))
    text = bench.entry.read_text()
    asyncio.run(bench.run(("pause", lambda: bench.replace(bench.entry, text + 'console.log("after it");'))))
    assert '"after it"' in bench.deployed


def test_nothing_is_built_while_nothing_changes(bench: Bench) -> None:
    asyncio.run(bench.run())
    # Once more than once: the first build told of a folder that was not looked at before.
    assert bench.builds == 2
    assert len(bench.server.uploads) == 1
