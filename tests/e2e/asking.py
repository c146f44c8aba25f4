"""Asks a real server as clients do, over HTTP and its socket, and looks at an instance as its admin does."""

import base64
import gzip
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.e2e.servers import RealServer

Json = dict[str, Any]  # Any: whatever a server answers
XSTATE = "5.33.3"
AUDIENCE = "https://api.statebacked.dev/"
TRUST = ssl.create_default_context()  # once: reading the certificates takes longer than a test's request


class _Client(httpx.Client):
    """Closes its connections when nobody can use them any more."""

    def __del__(self) -> None:
        self.close()


class Asker:
    """One client of a server: its admin, on behalf of `act` if that is given, or whoever `token` is for."""

    def __init__(
        self, server: RealServer, *, act: Json | None = None, token: str | None = None, org: str | None = None
    ) -> None:
        self.server = server
        self.token = token or server.admin["adminToken"]
        self.org = org or server.admin["orgId"]
        headers = {"authorization": f"Bearer {self.token}", "x-statebacked-org-id": self.org}
        if act is not None:
            headers["x-statebacked-act"] = json.dumps(act)
        self.http = _Client(base_url=server.url, headers=headers, timeout=60, verify=TRUST)

    def create(self, machine: str, instance: str, context: Json | None = None) -> httpx.Response:
        body = {"slug": instance} if context is None else {"slug": instance, "context": context}
        return self.http.post(f"/machines/{machine}", json=body)

    def send(self, machine: str, instance: str, event: str | Json) -> httpx.Response:
        return self.http.post(f"/machines/{machine}/i/{instance}/events", json={"event": event})

    def get(self, machine: str, instance: str) -> httpx.Response:
        return self.http.get(f"/machines/{machine}/i/{instance}")

    def admin_state(self, machine: str, instance: str) -> Json:
        return answered(self.http.get(f"/machines/{machine}/i/{instance}/admin"))

    def transitions(self, machine: str, instance: str) -> list[Json]:
        page = answered(self.http.get(f"/machines/{machine}/i/{instance}/events", params={"limit": "1000"}))
        assert "cursor" not in page
        listed: list[Json] = page["transitions"]
        return listed

    def look(self, machine: str, instance: str) -> Json:
        """All that is durable of an instance."""
        return {
            **self.admin_state(machine, instance),
            "history": self.transitions(machine, instance),
        }

    # --- versions

    def begin_version(self, machine: str, *, gzipped: bool = False, xstate: str | None = XSTATE) -> Json:
        body = {} if xstate is None else {"xstate": xstate}
        return answered(self.http.post(f"/machines/{machine}/v{'?gzip' if gzipped else ''}", json=body))

    def upload(self, begun: Json, code: bytes, *, says_gzip: bool = False) -> httpx.Response:
        fields = {**begun["codeUploadFields"], "content-type": "application/javascript"}
        if says_gzip:
            fields["content-encoding"] = "gzip"
        file = ("machine.js", code, "application/javascript")
        url = begun["codeUploadUrl"]
        return httpx.post(url, data=fields, files={"file": file}, timeout=60, verify=TRUST)

    def finalize(self, machine: str, begun: Json) -> httpx.Response:
        signed = begun["machineVersionId"]
        return self.http.put(
            f"/machines/{machine}/v/{signed}", json={"makeCurrent": True, "clientInfo": "test"}
        )

    def add_version(self, machine: str, code: str | bytes, *, xstate: str | None = XSTATE) -> httpx.Response:
        """Announce, upload and finalize; the answer of the last."""
        code = code.encode() if isinstance(code, str) else code
        begun = self.begin_version(machine, gzipped=True, xstate=xstate)
        assert self.upload(begun, gzip.compress(code), says_gzip=True).is_success
        return self.finalize(machine, begun)

    def deploy(self, machine: str, code: str | Path, *, xstate: str | None = XSTATE) -> str:
        """A new machine with that code; the version's id."""
        assert self.http.post("/machines", json={"slug": machine}).status_code == 201
        text = code.read_text() if isinstance(code, Path) else code
        return str(answered(self.add_version(machine, text, xstate=xstate))["machineVersionId"])


def answered(response: httpx.Response) -> Json:
    assert response.status_code == 200, f"{response.request.url}: {response.status_code} {response.text}"
    body: Json = response.json()
    return body


def refused(response: httpx.Response, status: int, code: str) -> str:
    """Asserts the refusal; its message."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["code"] == code, body
    assert body["requestId"] == response.headers["x-request-id"]
    message: str = body["error"]
    assert len(message) > 10, f"says nothing: {body}"
    assert "Traceback" not in message
    assert "/site-packages/" not in message
    assert "file://" not in message
    return message


def key_token(server: RealServer, **claims: object) -> str:
    """A token signed with the key of admin.json; `claims` replace the usual ones, None leaves one out."""
    return sign_token(server.admin["keyId"], server.admin["secretKey"], **claims)


def sign_token(key_id: str, secret: str, **claims: object) -> str:
    now = int(time.time())
    usual: Json = {
        "act": {},
        "aud": AUDIENCE,
        "iss": "https://test.example/",
        "iat": now,
        "exp": now + 600,
    }
    payload = {name: value for name, value in {**usual, **claims}.items() if value is not None}
    signed = f"{_part({'alg': 'HS256', 'kid': key_id})}.{_part(payload)}"
    mac = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_base64url(mac)}"


def _part(value: Json) -> str:
    return _base64url(json.dumps(value).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Subscriber:
    """A socket of /rt and what it has said."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[Json] = []

    def subscribe(self, machine: str, instance: str, request: str = "r1") -> None:
        self._say("subscribe-to-instance", machine, instance, request)

    def unsubscribe(self, machine: str, instance: str, request: str = "r1") -> None:
        self._say("unsubscribe-from-instance", machine, instance, request)

    def _say(self, kind: str, machine: str, instance: str, request: str) -> None:
        message = {
            "type": kind,
            "requestId": request,
            "machineName": machine,
            "machineInstanceName": instance,
        }
        self.socket.send(json.dumps(message))

    def until(self, claim: Callable[[Json], bool], timeout_s: float = 20) -> Json:
        """The first message, heard already or yet to come, of which the claim is true."""
        for heard in self.heard:
            if claim(heard):
                return heard
        while True:
            message: Json = json.loads(self.socket.recv(timeout=timeout_s))
            self.heard.append(message)
            if claim(message):
                return message


@contextmanager
def subscriber(asker: Asker) -> Iterator[Subscriber]:
    """Sockets know a session only as itself: its authContext is {}."""
    query = urlencode({"token": asker.token, "x-statebacked-org-id": asker.org})
    address = asker.server.url.replace("http://", "ws://") + "/rt?" + query
    with connect(address, compression=None, close_timeout=2) as socket:
        yield Subscriber(socket)
