"""The example page: the `page` folder beside a machine's file, with the published client and the org id put
in.

It has a port of its own, so that what the page loads is not an API route, and calls the server as any page
does.
"""

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from statebacked.cli.deno_tool import run_deno, start_deno
from statebacked.cli.errors import BuildError, CliError
from statebacked.serve.dev_plan import DevFile, ServerInfo

__all__ = ["listen_for_page", "page_app", "page_folder", "serve_page"]

CLIENT = "@statebacked/client@0.1.37"
LOOPBACK = "127.0.0.1"


def page_folder(file: Path) -> Path | None:
    """The folder `page` beside a machine's file, if it holds a page."""
    folder = file.parent / "page"
    return folder if (folder / "index.html").is_file() else None


def page_app(server: ServerInfo, dev_file: DevFile, folder: Path) -> Starlette:
    """The page's files, `config.json` {orgId, apiHost, machineName}, and the client built for browsers."""
    config = {"orgId": server.org_id, "apiHost": server.url, "machineName": dev_file.machine}

    async def get_config(_request: Request) -> Response:
        return JSONResponse(config, headers={"cache-control": "no-store"})

    async def get_client(_request: Request) -> Response:
        try:
            code = await asyncio.to_thread(browser_client, server.data / "cache")
        except CliError as exc:
            return PlainTextResponse(str(exc), status_code=503)
        return Response(code, media_type="text/javascript")

    async def get_no_icon(_request: Request) -> Response:
        """Browsers ask for one where the page names none."""
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/config.json", get_config),
            Route("/statebacked-client.js", get_client),
            *([] if (folder / "favicon.ico").is_file() else [Route("/favicon.ico", get_no_icon)]),
            Mount("/", StaticFiles(directory=folder, html=True)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])],
    )


def browser_client(cache: Path) -> bytes:
    """The published client as one module; bundled once, then kept in `cache`. Raises CliError."""
    kept = cache / (CLIENT.replace("/", "-") + ".js")
    if kept.is_file():
        return kept.read_bytes()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        (folder / "entry.mjs").write_text(f'export * from "npm:{CLIENT}";\n')
        arguments = (
            "bundle --quiet --no-config --no-lock --platform browser --minify --output client.js entry.mjs"
        )
        finished = run_deno(start_deno(arguments.split(), folder=folder, env=os.environ))
        if finished.code != 0:
            raise BuildError(f"the published client cannot be bundled: {finished.err}")
        (folder / "client.js").replace(kept)
    return kept.read_bytes()


@contextlib.asynccontextmanager
async def serve_page(app: Starlette, listener: socket.socket) -> AsyncIterator[str]:
    """Serves while the block runs, then closes `listener`; yields the page's URL."""
    with contextlib.closing(listener):
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", ws="none")
        page_server = _QuietServer(config)
        task = asyncio.create_task(page_server.serve(sockets=[listener]), name="example page")
        try:
            yield f"http://{LOOPBACK}:{listener.getsockname()[1]}/"
        finally:
            page_server.should_exit = True
            await task


def listen_for_page(port: int) -> socket.socket:
    """On 127.0.0.1, at any free port when this one is taken."""
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError:
        return socket.create_server((LOOPBACK, 0))


class _QuietServer(uvicorn.Server):
    """Leaves the process's signals to the server that it runs beside."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
