"""What docs/reference/limits.md says of a limit is what its route answers one past it, and not before."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from statebacked.model import limits
from tests.api.server import ApiServer
from tests.api.test_versions import FORM, multipart, new_machine, part, reserve

pytestmark = pytest.mark.anyio

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "limits.md"
EVENTS = "/machines/toggler/i/i-1/events"
Ask = Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]


def documented(name: str) -> set[tuple[int, str]]:
    """The answers in the limit's row."""
    (row,) = re.findall(rf"^\| `{name}` \| [^|]+ \| (.+) \|$", REFERENCE.read_text(), re.MULTILINE)
    return {(int(status), code) for status, code in re.findall(r"(\d{3}) `([a-z-]+)`", row)}


async def name(client: httpx.AsyncClient, size: int) -> httpx.Response:
    return await client.get(f"/machines/{'m' * size}")


async def org_name(client: httpx.AsyncClient, size: int) -> httpx.Response:
    return await client.post("/keys", json={"name": "n" * size})


async def client_info(client: httpx.AsyncClient, size: int) -> httpx.Response:
    signed = (await reserve(client))["machineVersionId"]
    return await client.put(f"/machines/m/v/{signed}", json={"clientInfo": "i" * size})


async def event_body(client: httpx.AsyncClient, size: int) -> httpx.Response:
    body = b'{"event":"' + b"e" * (size - 12) + b'"}'
    assert len(body) == size
    return await client.post(EVENTS, content=body)


async def event_depth(client: httpx.AsyncClient, depth: int) -> httpx.Response:
    # The body and the event are two of the levels.
    inner = "[" * (depth - 2) + "]" * (depth - 2)
    return await client.post(EVENTS, content='{"event":{"type":"go","x":' + inner + "}}")


async def json_body(client: httpx.AsyncClient, size: int) -> httpx.Response:
    body = '{"slug":"new","x":"'
    return await client.post("/machines", content=body + "x" * (size - len(body) - 2) + '"}')


async def form_body(client: httpx.AsyncClient, size: int) -> httpx.Response:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return await client.post("/tokens", content=b"a=" + b"x" * (size - 2), headers=headers)


async def upload_parts(client: httpx.AsyncClient, count: int) -> httpx.Response:
    url = (await reserve(client))["codeUploadUrl"]
    form = multipart(*[part(f"a{n}", b"") for n in range(count - 1)], part("file", b"export default 1"))
    return await client.post(url, content=form, headers={"content-type": FORM})


async def upload_field(client: httpx.AsyncClient, size: int) -> httpx.Response:
    url = (await reserve(client))["codeUploadUrl"]
    form = multipart(part("a", b"x" * size), part("file", b"export default 1"))
    return await client.post(url, content=form, headers={"content-type": FORM})


async def page_rows(client: httpx.AsyncClient, count: int) -> httpx.Response:
    return await client.get("/machines", params={"limit": count})


async def cursor(client: httpx.AsyncClient, size: int) -> httpx.Response:
    return await client.get("/machines", params={"cursor": "c" * size})


async def indexes(client: httpx.AsyncClient, count: int) -> httpx.Response:
    return await client.post("/machines", json={"slug": "many", "indexes": [f"i{n}" for n in range(count)]})


async def idempotency_key(client: httpx.AsyncClient, size: int) -> httpx.Response:
    return await client.post(EVENTS, json={"event": "go"}, headers={"idempotency-key": "k" * size})


async def token(client: httpx.AsyncClient, size: int) -> httpx.Response:
    return await client.get("/machines", headers={"authorization": f"Bearer {'t' * size}"})


ASKED: list[tuple[str, Ask]] = [
    ("NAME_CHARACTERS_MAX", name),
    ("PRINTABLE_NAME_CHARACTERS_MAX", org_name),
    ("PRINTABLE_NAME_CHARACTERS_MAX", client_info),
    ("EVENT_BODY_BYTES_MAX", event_body),
    ("EVENT_BODY_DEPTH_MAX", event_depth),
    ("JSON_BODY_BYTES_MAX", json_body),
    ("FORM_BODY_BYTES_MAX", form_body),
    ("UPLOAD_PARTS_MAX", upload_parts),
    ("UPLOAD_FIELD_BYTES_MAX", upload_field),
    ("PAGE_ROWS_MAX", page_rows),
    ("CURSOR_CHARACTERS_MAX", cursor),
    ("MACHINE_INDEXES_MAX", indexes),
    ("IDEMPOTENCY_KEY_CHARACTERS_MAX", idempotency_key),
    ("TOKEN_BYTES_MAX", token),
]
# At the limit the answer is the same for another reason: it is not a cursor, or not a token.
REFUSED_BEFORE = {"CURSOR_CHARACTERS_MAX", "TOKEN_BYTES_MAX"}


@pytest.mark.parametrize(("limit", "ask"), ASKED, ids=lambda part: getattr(part, "__name__", part))
async def test_past_a_limit_the_answer_is_the_documented_one(server: ApiServer, limit: str, ask: Ask) -> None:
    org = await new_machine(server)
    size: int = getattr(limits, limit)
    async with server.client(await server.token(org)) as client:
        before = await ask(client, size)
        past = await ask(client, size + 1)
    assert answer_of(past) in documented(limit), past.text
    assert limit in REFUSED_BEFORE or answer_of(before) != answer_of(past)


def answer_of(response: httpx.Response) -> tuple[int, str]:
    told = response.json() if response.content else {}
    return response.status_code, told.get("code") or told.get("error_code") or ""
