"""A server small enough to read: what `smply` asks is kept, what it hears is decided by the test."""

import gzip
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP

import httpx

URL = "http://127.0.0.1:7070"
STATE = {"ts": 1, "state": "on", "publicContext": {"toggleCount": 1}, "tags": [], "done": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The parts of one code upload in their order; `code` is the unzipped file."""

    names: list[str]
    fields: dict[str, str]
    file_name: str
    code: bytes


@dataclass(slots=True, kw_only=True)
class FakeServer:
    """Answers like a server with one org and no machine in it. `answers` go first: method and path to a
    response."""

    requests: list[httpx.Request] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    answers: dict[str, Callable[[httpx.Request], httpx.Response]] = field(default_factory=dict)
    unreachable_hosts: set[str] = field(default_factory=set)
    has_network: bool = False  # the real one, in place of this server

    def transport(self) -> httpx.MockTransport | None:
        return None if self.has_network else httpx.MockTransport(self._answer)

    def refuse(self, route: str, status: int, body: object) -> None:
        self.answers[route] = lambda _request: httpx.Response(status, json=body)

    def give(self, route: str, *pages: object) -> None:
        """Each call gets the next page; the last one stays."""
        left = list(pages)
        self.answers[route] = lambda _request: httpx.Response(
            200, json=left.pop(0) if len(left) > 1 else left[0]
        )

    def bodies(self, route: str) -> list[object]:
        """The JSON bodies that came to a route."""
        return [
            json.loads(request.content) if request.content else None
            for request in self.requests
            if _route(request) == route
        ]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.host in self.unreachable_hosts:
            raise httpx.ConnectError("no route") from socket.gaierror(-2, "Name or service not known")
        request.read()
        self.requests.append(request)
        route = _route(request).replace("/api/", "/")
        if route in self.answers:
            return self.answers[route](request)
        if route == "POST /uploads/1":
            assert "authorization" not in request.headers
            self.uploads.append(_upload(request))
            return httpx.Response(204)
        if request.method == "POST" and route.endswith("/v"):
            return httpx.Response(
                200,
                json={
                    "machineVersionId": "signed.id",
                    "codeUploadUrl": f"{URL}/uploads/1",
                    "codeUploadFields": {"signature": "s1", "key": "k1"},
                },
            )
        if request.method == "PUT" and "/v/" in route:
            return httpx.Response(200, json={"machineVersionId": "ver_1"})
        if route == "POST /machines":
            return httpx.Response(201)
        if route == "POST /keys":
            return httpx.Response(200, json={"id": "sbk_1", "key": "sbsec_1"})
        if route == "GET /orgs":
            return httpx.Response(200, json={"orgs": [{"id": "org_1", "name": "mine", "role": "admin"}]})
        if request.method == "DELETE":
            return httpx.Response(204)
        if request.method == "POST":
            return httpx.Response(200, json=STATE)
        return httpx.Response(404, json={"code": "not-found", "error": "no such thing", "requestId": "req_9"})


def _route(request: httpx.Request) -> str:
    return f"{request.method} {request.url.raw_path.decode().partition('?')[0]}"


def _upload(request: httpx.Request) -> Upload:
    """Read with the standard library's e-mail parser: another implementation than the one that wrote it."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + request.content, policy=HTTP)
    names: list[str] = []
    fields: dict[str, str] = {}
    file_name, code = "", b""
    for part in message.iter_parts():
        name = str(part.get_param("name", header="content-disposition"))
        names.append(name)
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        named = part.get_filename()
        if named is None:
            fields[name] = payload.decode()
        else:
            file_name, code = named, gzip.decompress(payload)
    return Upload(names=names, fields=fields, file_name=file_name, code=code)
