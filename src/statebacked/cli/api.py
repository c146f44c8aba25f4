"""One connection to a server: requests out, JSON objects back, refusals as ApiError.

A call waits up to 120 s for its answer: an event is answered when its services have settled, 90 s at most.
"""

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlsplit

from statebacked.cli.credentials import Credentials
from statebacked.cli.errors import ApiError, CliError
from statebacked.cli.event_stream import Event, EventReader

if TYPE_CHECKING:
    # Imported when the first request is made: it costs a third of the time in which --help must be there.
    import httpx

__all__ = ["Api", "JsonObject", "StreamBroken", "path_of"]

JsonObject = dict[str, object]

ANSWER_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 5.0
STREAM_SILENCE_S = 40.0  # a stream says every 15 s that it lives
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


def path_of(*segments: str) -> str:
    """`/machines/…` from names, each encoded once, whatever it holds."""
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


class StreamBroken(CliError):
    """A stream ended that was to go on. `is_silence`: nothing was heard, not even that it lives."""

    def __init__(self, message: str, *, is_silence: bool = False) -> None:
        super().__init__(message)
        self.is_silence = is_silence


class Api:
    """Talks to `credentials.url`; `act` are the claims to act as (an admin session may).

    Errors of every call: ApiError when the server refuses; CliError when it cannot be reached or answers
    something that is no JSON object.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        act: str | None = None,
        transport: "httpx.BaseTransport | None" = None,
    ) -> None:
        self._credentials = credentials
        self._act = act
        self._transport = transport
        self._client: httpx.Client | None = None

    def __enter__(self) -> Self:
        import httpx

        host = _host(self._credentials)
        self._client = httpx.Client(
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=self._transport,
            # A proxy of the environment cannot reach this machine's own loopback.
            trust_env=host not in LOOPBACK_HOSTS,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._client is not None
        self._client.close()

    def get(self, path: str, params: Mapping[str, str] | None = None) -> JsonObject:
        """The answer's JSON object."""
        return _object(self._send("GET", path, params=params))

    def post(
        self,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> JsonObject:
        """The answer's JSON object; `{}` for an answer without one (201, 204)."""
        headers = {} if idempotency_key is None else {"idempotency-key": idempotency_key}
        return _object(self._send("POST", path, params=params, body=body, headers=headers))

    def put(self, path: str, body: object = None) -> JsonObject:
        """The answer's JSON object; `{}` for an answer without one (201, 204)."""
        return _object(self._send("PUT", path, body=body))

    def delete(self, path: str, body: object = None) -> None:
        """Nothing comes back but success."""
        self._send("DELETE", path, body=body)

    def upload(self, url: str, fields: Mapping[str, str], *, file_name: str, code: bytes) -> None:
        """One multipart form with the gzipped code: the fields first, the file last, no authorization."""
        form = {**fields, "content-type": "application/javascript", "content-encoding": "gzip"}
        # mtime 0: the same code is the same upload.
        file = (file_name, gzip.compress(code, mtime=0), "application/javascript")
        self._checked(self._exchange("POST", url, data=form, files={"file": file}))

    @contextmanager
    def stream(
        self, path: str, params: Mapping[str, str], last_id: str | None
    ) -> Iterator[Iterator[Event] | None]:
        """Server-sent events, comments among them as empty ones; None when the server says that there is
        nothing to wait for. Raises, also while they are read, StreamBroken."""
        import httpx

        assert self._client is not None
        headers = {**self._headers(), "accept": "text/event-stream"}
        if last_id is not None:
            headers["last-event-id"] = last_id
        url = self._credentials.url.rstrip("/") + path
        timeout = httpx.Timeout(STREAM_SILENCE_S, connect=CONNECT_TIMEOUT_S)
        try:
            with self._client.stream("GET", url, headers=headers, params=params, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                self._checked(response)
                yield None if response.status_code == 204 else _events(response)
        except httpx.ConnectError as exc:
            raise StreamBroken(self._unreachable()) from exc
        except httpx.TimeoutException as exc:
            raise StreamBroken(f"no sign of life from {self._credentials.url}", is_silence=True) from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise StreamBroken(f"the connection to {self._credentials.url} broke: {exc}") from exc

    def _headers(self) -> dict[str, str]:
        headers = {"authorization": f"Bearer {self._credentials.token}"}
        if self._credentials.org:
            headers["x-statebacked-org-id"] = self._credentials.org
        if self._act is not None:
            headers["x-statebacked-act"] = self._act
        return headers

    def _unreachable(self) -> str:
        return (
            f"nothing answers at {self._credentials.url} ({self._credentials.source}): "
            "is the server running? `statebacked dev` starts one"
        )

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> "httpx.Response":
        headers = {**self._headers(), **(headers or {})}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        url = self._credentials.url.rstrip("/") + path
        return self._checked(self._exchange(method, url, headers=headers, params=params, content=content))

    def _exchange(self, method: str, url: str, **request: object) -> "httpx.Response":
        import httpx

        assert self._client is not None
        try:
            # httpx names its own types for what it accepts; all of them are given above.
            return self._client.request(method, url, **request)  # type: ignore[arg-type]
        except httpx.ConnectError as exc:
            raise CliError(self._unreachable()) from exc
        except httpx.TimeoutException as exc:
            raise CliError(
                f"no answer from {self._credentials.url} in {ANSWER_TIMEOUT_S:.0f} seconds"
            ) from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise CliError(f"cannot talk to {self._credentials.url}: {exc}") from exc

    def _checked(self, response: "httpx.Response") -> "httpx.Response":
        if response.is_success:
            return response
        refusal = _refusal(response)
        if refusal.code == "missing-org" and self._credentials.org is not None:
            refusal.message += (
                f"; asked for {self._credentials.org}, --org or `smply orgs default set` name another"
            )
        raise refusal


def _events(response: "httpx.Response") -> Iterator[Event]:
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "text/event-stream":
        # As a server answers that has no such route.
        raise ApiError(
            406, code="", message=f"the server sends {kind or 'nothing'}, no events", request_id=""
        )
    reader = EventReader()
    for data in response.iter_bytes():
        yield from reader.feed(data)


def _host(credentials: Credentials) -> str:
    """Of the server's URL. Raises CliError when it is none."""
    try:
        url = urlsplit(credentials.url)
        if url.scheme in ("http", "https") and url.hostname and not re.search(r"\s", credentials.url):
            return url.hostname
    except ValueError:
        pass
    raise CliError(f"{credentials.url!r} ({credentials.source}) is no URL of a server: http://HOST:PORT")


def _refusal(response: "httpx.Response") -> ApiError:
    """The body is {code?, error?, parameter?, requestId?}, or a proxy's page: then the status is all there
    is."""
    try:
        body = response.json()
    except ValueError:
        body = None
    told: JsonObject = body if isinstance(body, dict) else {}
    message = str(told.get("error") or response.reason_phrase)
    if told.get("parameter"):
        message += f" [parameter {told['parameter']}]"
    return ApiError(
        response.status_code,
        code=str(told.get("code") or ""),
        message=message,
        request_id=str(told.get("requestId") or response.headers.get("x-request-id") or ""),
    )


def _object(response: "httpx.Response") -> JsonObject:
    if response.status_code in (201, 204) or not response.content:
        return {}
    try:
        value = response.json()
    except ValueError as exc:
        raise CliError(
            f"{response.url} answered something that is no JSON: is this a statebacked server?"
        ) from exc
    if not isinstance(value, dict):
        raise CliError(f"{response.url} answered JSON that is no object: is this a statebacked server?")
    return value
