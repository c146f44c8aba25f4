"""What the published client sends, as recorded, gets the answers that its types promise.

golden/client-0.1.37.json holds its very requests, uploads in the bytes of both form encoders that occur.
The expected answers are written from the client's own type definitions (gen-api.d.ts).
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from statebacked.model.ids import OrgId
from tests.api.server import ApiServer

pytestmark = pytest.mark.anyio

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "golden/client-0.1.37.json").read_text())
ORG = OrgId("org_uHvZHpF4STWvMg8BKVCUTg")
STATE = {"ts": int, "state": str, "tags": list, "done": bool}
VERSION = {"id": str, "createdAt": str, "clientInfo": str}

# By call: the type of each field that the client reads. None: the client reads no body.
PROMISED: dict[str, Any] = {
    "anonymous": {"access_token": str},
    "machines.create": None,
    "machines.list": {"machines": [{"slug": str, "createdAt": str, "currentVersion": VERSION}]},
    "machines.get": {"machine": {"createdAt": str, "currentVersion": VERSION}},
    "machineVersions.create": {"machineVersionId": str},
    "machineVersions.create(gzip)": {"machineVersionId": str},
    "machineVersions.list": {"versions": [VERSION]},
    "machineInstances.create": {**STATE, "publicContext": {"n": int}},
    "machineInstances.create(no context)": STATE,
    "machineInstances.get": {**STATE, "publicContext": {"n": int}},
    "machineInstances.sendEvent": STATE,
    "machineInstances.sendEvent(object)": STATE,
    "machineInstances.sendEvent(act)": STATE,
    "machineInstances.list": {
        "instances": [{"slug": str, "createdAt": str, "status": str, "machineVersion": VERSION}]
    },
    "machineInstances.listTransitions": {"transitions": [{"createdAt": str, "state": str, "event": dict}]},
    "machineInstances.admin.get": {
        "state": str,
        "context": dict,
        "status": str,
        "tags": list,
        "done": bool,
        "machineVersion": VERSION,
        "createdAt": str,
    },
    "keys.create": {"id": str, "key": str},
    "keys.list": {"keys": [{"id": str, "name": str, "scopes": list, "createdAt": str}]},
    "keys.delete": None,
    "orgs.list": {
        "orgs": [
            {
                "id": str,
                "name": str,
                "role": str,
                "createdAt": str,
                "limits": {"monthlyEventsLimit": int, "monthlyReadsLimit": int},
            }
        ]
    },
    "orgs.create": {"id": str},
}


def keeps(promise: Any, value: Any) -> bool:
    if isinstance(promise, type):
        return type(value) is promise
    if isinstance(promise, list):
        return bool(value) and all(keeps(promise[0], item) for item in value)
    return all(name in value and keeps(inner, value[name]) for name, inner in promise.items())


class Replay:
    """Sends recorded requests, with what this server gave in the places of what another one gave."""

    def __init__(self, client: httpx.AsyncClient, given: dict[str, str]) -> None:
        self.client = client
        self.given = given

    def fill(self, text: str) -> str:
        for name, value in self.given.items():
            text = text.replace(name, value)
        return text

    async def send(self, request: dict[str, Any]) -> httpx.Response:
        if request["path"].startswith("/uploads"):
            return await self.upload(request)
        headers = {name: self.fill(value) for name, value in request["headers"].items()}
        body = request["body"] and self.fill(request["body"])
        path = self.fill(request["path"])
        response = await self.client.request(request["method"], path, content=body, headers=headers)
        given = response.json() if response.status_code == 200 else {}
        if "codeUploadUrl" in given:
            self.given |= {"<signed>": given["machineVersionId"], "<upload>": given["codeUploadUrl"]}
        if "key" in given:
            self.given["<key>"] = given["id"]
        return response

    async def upload(self, request: dict[str, Any]) -> httpx.Response:
        responses = [
            await self.client.post(
                self.given["<upload>"],
                content=base64.b64decode(form["base64"]),
                headers={"content-type": form["type"]},
            )
            for form in request["body"]
        ]
        assert {response.status_code for response in responses} == {204}
        return responses[-1]


def calls() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The requests of each call, in the order of their recording."""
    by_call: dict[str, list[dict[str, Any]]] = {}
    for request in RECORDED:
        by_call.setdefault(request["call"], []).append(request)
    yield from by_call.items()


async def test_the_published_client_gets_what_its_types_promise(server: ApiServer) -> None:
    await server.org(org_id=ORG)
    given = {"<token>": await server.token(ORG), "<session>": await server.session((ORG, "admin"))}
    answered = set()
    async with server.client() as client:
        replay = Replay(client, given)
        for name, requests in calls():
            response = [await replay.send(request) for request in requests][-1]
            if name == "machines.list(cursor)":
                assert response.json()["code"] == "invalid-cursor"
                continue
            promise = PROMISED[name]
            if promise is None:
                assert response.status_code in {201, 204}, response.text
            else:
                assert response.status_code == 200, (name, response.text)
                assert keeps(promise, response.json()), (name, response.text)
            answered.add(name)
    assert answered == set(PROMISED)
    assert sorted(server.catalogue.bundles.values()) == [b"export default 1", b"export default 2"]
    act = [auth for _, _, auth in server.engine.events][-1]
    assert act == b'{"sid":"s"}'
