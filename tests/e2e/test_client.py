"""The published JavaScript client in Node against a real server."""

from pathlib import Path

from tests.e2e.servers import RealServer


def test_the_published_client_works_unmodified(server: RealServer, counter: Path) -> None:
    server.node("client.test.mjs", {"MACHINE": "counter"})
