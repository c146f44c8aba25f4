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

from statebacked.cli.connecting import why_not_connected
from statebacked.cli.credentials import Credentials
from statebacked.cli.errors import ApiError, CliError, Unreachable
from statebacked.cli.event_stream import Event, EventReader
from statebacked.cli.output import JsonObject, is_unicode, note

if TYPE_CHECKING:
    # Imported when the first request is made: it costs a third of the time in which --help must be there.
    import httpx

__all__ = ["Api", "JsonObject", "StreamBroken", "path_of"]

ANSWER_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 5.0
STREAM_SILENCE_S = 40.0  # a stream sends a heartbeat every 15 s
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
# What a proxy answers for a server that is away.
GATEWAY = frozenset({502, 503, 504})


def path_of(*segments: str) -> str:
    """`/machines/…` from names, each encoded once, whatever it holds."""
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


class StreamBroken(Unreachable):
    """A stream ended that was to go on. `is_silence`: nothing was received, no heartbeat either."""

    def __init__(self, message: str, *, is_silence: bool = False) -> None:
        super().__init__(message)
        self.is_silence = is_silence


class Api:
    """Talks to `credentials.url`, or, when no connection to that can be made, to the server's address on this
    machine, if that is known; `act` are the claims to act as (an admin session may).

    Errors of every call: ApiError when the server refuses; Unreachable; CliError when it answers
    something that is not a JSON object.
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
        self._url = credentials.url.rstrip("/")  # in use now
        self._client: httpx.Client | None = None

    def __enter__(self) -> Self:
        self._client = self._open()
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

    def send_event(self, path: str, event: object, *, idempotency_key: str | None) -> tuple[JsonObject, bool]:
        """The state after the event, and whether the event had any effect."""
        headers = {} if idempotency_key is None else {"idempotency-key": idempotency_key}
        response = self._send("POST", path, body={"event": event}, headers=headers)
        return _object(response), response.headers.get("x-statebacked-event") != "unchanged"

    def put(self, path: str, body: object = None) -> JsonObject:
        """The answer's JSON object; `{}` for an answer without one (201, 204)."""
        return _object(self._send("PUT", path, body=body))

    def delete(self, path: str, body: object = None) -> None:
        """Nothing comes back but success."""
        self._send("DELETE", path, body=body)

    def upload(self, url: str, fields: Mapping[str, str], *, file_name: str, code: bytes) -> None:
        """One multipart form with the gzipped code: the fields first, the file last, no authorization."""
        # It was made for `credentials.url`.
        named = self._credentials.url.rstrip("/")
        if url.startswith(named + "/"):
            url = self._url + url.removeprefix(named)
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
        headers = _sendable({**self._headers(), "accept": "text/event-stream"})
        if last_id is not None:
            headers["last-event-id"] = last_id
        timeout = httpx.Timeout(STREAM_SILENCE_S, connect=CONNECT_TIMEOUT_S)
        try:
            with self._client.stream(
                "GET", self._url + path, headers=headers, params=params, timeout=timeout
            ) as response:
                if not response.is_success:
                    response.read()
                self._checked(response)
                yield _events(response) if _is_stream(response) else None
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            why = self._unreachable(exc)
            if not self._turns_to_local(why):
                raise StreamBroken(why) from exc
            with self.stream(path, params, last_id) as events:
                yield events
        except httpx.TimeoutException as exc:
            raise StreamBroken(f"no sign of life from {self._url}", is_silence=True) from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise StreamBroken(f"the connection to {self._url} broke: {exc}") from exc

    def _open(self) -> "httpx.Client":
        import httpx

        host = _host(self._url, self._credentials.source)
        return httpx.Client(
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=self._transport,
            # A proxy of the environment cannot reach this machine's own loopback.
            trust_env=host not in LOOPBACK_HOSTS,
        )

    def _turns_to_local(self, why: str) -> bool:
        """Whether there is another address of the same server to try; it is used from then on."""
        local = self._credentials.local_url
        if local is None or self._url == local:
            return False
        note(f"{why}\nusing {local}, the server's address on this machine")
        assert self._client is not None
        self._client.close()
        self._url = local
        self._client = self._open()
        return True

    def _headers(self) -> dict[str, str]:
        headers = {"authorization": f"Bearer {self._credentials.token}"}
        if self._credentials.org:
            headers["x-statebacked-org-id"] = self._credentials.org
        if self._act is not None:
            headers["x-statebacked-act"] = self._act
        return headers

    def _unreachable(self, failure: "httpx.TransportError") -> str:
        why = why_not_connected(failure, self._url, timeout_s=CONNECT_TIMEOUT_S)
        return f"{why} [{self._credentials.source}]"

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> "httpx.Response":
        headers = _sendable({**self._headers(), **(headers or {})})
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = _encoded(body)
        return self._checked(
            self._exchange(method, self._url + path, headers=headers, params=params, content=content)
        )

    def _exchange(self, method: str, url: str, **request: object) -> "httpx.Response":
        import httpx

        assert self._client is not None
        try:
            # httpx names its own types for what it accepts; all of them are given above.
            return self._client.request(method, url, **request)  # type: ignore[arg-type]
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            # Nothing was sent, so that it may be sent to another address.
            why, tried = self._unreachable(exc), self._url
            if url.startswith(tried + "/") and self._turns_to_local(why):
                return self._exchange(method, self._url + url.removeprefix(tried), **request)
            raise Unreachable(why) from exc
        except httpx.TimeoutException as exc:
            raise Unreachable(f"no answer from {self._url} in {ANSWER_TIMEOUT_S:.0f} seconds") from exc
        except (httpx.RemoteProtocolError, httpx.ReadError) as exc:
            other = "http" if self._url.startswith("https:") else "https"
            raise Unreachable(
                f"{self._url} broke off without a whole answer in HTTP ({exc}): is it a statebacked server, "
                f"and is it {other}:// there?"
            ) from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise Unreachable(f"cannot talk to {self._url}: {exc}") from exc

    def _checked(self, response: "httpx.Response") -> "httpx.Response":
        if response.is_success:
            return response
        refusal = _refusal(response)
        if refusal.code == "missing-org" and self._credentials.org is not None:
            refusal.message += (
                f"; asked for {self._credentials.org}, --org or `smply orgs default set` name another"
            )
        raise refusal


def _is_stream(response: "httpx.Response") -> bool:
    """False: the server has nothing to wait for. Raises ApiError for something else, as a server sends that
    has no such route."""
    if response.status_code == 204:
        return False
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "text/event-stream":
        message = f"the server sends {kind or 'nothing'} instead of events"
        raise ApiError(406, code="", message=message, request_id="")
    return True


def _events(response: "httpx.Response") -> Iterator[Event]:
    reader = EventReader()
    for data in response.iter_bytes():
        yield from reader.feed(data)


def _sendable(headers: dict[str, str]) -> dict[str, str]:
    """Raises CliError for a value that no header can hold."""
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            what = {"authorization": "the access token", "x-statebacked-org-id": "the org"}.get(name, name)
            raise CliError(f"{what} holds a character that cannot be sent: only visible ASCII can")
    return headers


def _encoded(body: object) -> bytes:
    """As JSON. Half a surrogate pair, which has no UTF-8, is left to the server to judge."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode() if is_unicode(text) else json.dumps(body, separators=(",", ":")).encode()


def _host(address: str, source: str) -> str:
    """Of the server's URL. Raises CliError when it is not one."""
    try:
        url = urlsplit(address)
        is_valid = url.scheme in ("http", "https") and url.port != 0 and not re.search(r"\s", address)
        is_valid = is_valid and is_unicode(address)
        if url.hostname and is_valid:
            return url.hostname
    except ValueError:
        pass
    raise CliError(f"{address!r} ({source}) is not the URL of a server: http://HOST:PORT")


def _refusal(response: "httpx.Response") -> ApiError:
    """The body is {code?, error?, parameter?, requestId?}, or a proxy's page: then the status is all there
    is."""
    try:
        body = response.json()
    except ValueError:
        body = None
    told: JsonObject = body if isinstance(body, dict) else {}
    message = str(told.get("error") or response.reason_phrase)
    if response.is_redirect:
        message += f": the server is at {response.headers.get('location')}"
    elif "code" not in told and response.status_code not in GATEWAY:
        message += f": is {response.url} of a statebacked server?"
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
            f"{response.url} answered something that is not JSON: is this a statebacked server?"
        ) from exc
    if not isinstance(value, dict):
        raise CliError(f"{response.url} answered JSON that is not an object: is this a statebacked server?")
    return value
