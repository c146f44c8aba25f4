"""Code uploads: a multipart form, read as a stream and never past its limits.

Source of the form: @statebacked/client 0.1.37, `uploadCode`: the given fields, `content-type`, for gzip
`content-encoding: gzip` (a field, not a header), and the code in `file`.
"""

import asyncio
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from statebacked.api.bodies import check_length, feed_body
from statebacked.api.calls import Call, OpenHandler, OrgCall
from statebacked.api.replies import Reply
from statebacked.api.signatures import Signatures, unknown_signature, upload_of
from statebacked.api.source_maps import with_clean_source_map
from statebacked.model.errors import (
    AlreadyFinalized,
    BadRequest,
    BundleTooLarge,
    InvalidBody,
    RateLimited,
    TooLarge,
)
from statebacked.model.ids import CodeId, Instant, VersionId
from statebacked.model.limits import (
    BUNDLE_BYTES_MAX,
    BUNDLE_GZIPPED_BYTES_MAX,
    UPLOAD_EXPIRES_MS,
    UPLOAD_FIELD_BYTES_MAX,
    UPLOAD_PARTS_MAX,
    UPLOADS_PENDING_MAX,
)
from statebacked.model.machine import Machine, Upload
from statebacked.ports.catalogue import Catalogue
from statebacked.ports.clock import Clock

_HOST: Final = re.compile(rb"[A-Za-z0-9._:\[\]-]{1,255}")
_OVERHEAD_BYTES: Final = UPLOAD_PARTS_MAX * (UPLOAD_FIELD_BYTES_MAX + 8_192)
_GZIP: Final = 16 + zlib.MAX_WBITS


class UploadRoutes:
    """The handler of upload URLs."""

    def __init__(self, catalogue: Catalogue, signatures: Signatures, clock: Clock) -> None:
        self._catalogue = catalogue
        self._signatures = signatures
        self._clock = clock

    def handlers(self) -> Mapping[str, OpenHandler]:
        """By operation."""
        return {"uploadCode": self.upload}

    async def upload(self, call: Call) -> Reply:
        signed = call.segment("signed")
        upload = await self._catalogue.find_upload(upload_of(signed))
        if upload is None:
            raise unknown_signature()
        self._signatures.check(signed, upload, "upload", self._clock.now().wall)
        if upload.state == "finalized":
            raise already_finalized()
        check_length(call.headers, BUNDLE_BYTES_MAX + _OVERHEAD_BYTES)
        form = UploadForm(call.headers.get(b"content-type", b""))
        limit_bytes = BUNDLE_BYTES_MAX + _OVERHEAD_BYTES
        await feed_body(call.request.receive, limit_bytes, call.deadlines, form.feed)
        # Inflating ten megabytes takes longer than other callers should wait.
        bundle = await asyncio.to_thread(_code_to_store, form, gzipped=upload.gzip)
        if not await self._catalogue.put_bundle(upload.id, bundle):
            raise already_finalized()
        return Reply(204)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What the uploader needs for the other two steps."""

    signed: str
    url: str


class Uploads:
    """The first and the last of the three steps, as far as they are the same for versions and migrations."""

    def __init__(
        self, catalogue: Catalogue, signatures: Signatures, clock: Clock, public_url: str | None
    ) -> None:
        self._catalogue = catalogue
        self._signatures = signatures
        self._clock = clock
        self._public_url = public_url.rstrip("/") if public_url else None

    async def reserve(
        self,
        call: OrgCall,
        machine: Machine,
        id: CodeId,
        *,
        xstate_hint: str | None = None,
        migrates: tuple[VersionId, VersionId] | None = None,
    ) -> Reserved:
        """A pending upload. Raises RateLimited when the org has its fill of them."""
        now = self._clock.now().wall
        upload = Upload(
            id=id,
            org=machine.org,
            machine=machine.name,
            expires_at=Instant(now + UPLOAD_EXPIRES_MS),
            gzip="gzip" in call.query(),
            xstate_hint=xstate_hint,
            bundle=None,
            state="pending",
            migrates=migrates,
        )
        base_url = self._base_url(call)
        if not await self._catalogue.add_upload(upload, now):
            raise RateLimited(
                f"the org has {UPLOADS_PENDING_MAX} unfinished uploads: finalize some, or wait an hour"
            )
        return Reserved(
            signed=self._signatures.sign(upload, "finalize"),
            url=f"{base_url}/uploads/{self._signatures.sign(upload, 'upload')}",
        )

    async def find(self, call: OrgCall, kind: Literal["version", "migration"]) -> Upload:
        """The upload of that kind that the path names, if it is the caller's own. Raises NotFound and
        AlreadyFinalized."""
        signed, machine = call.segment("signed"), call.machine()
        upload = await self._catalogue.find_upload(upload_of(signed))
        if upload is None or upload.org != call.principal.org or upload.machine != machine:
            raise unknown_signature()
        if (upload.migrates is not None) != (kind == "migration"):
            raise unknown_signature()
        self._signatures.check(signed, upload, "finalize", self._clock.now().wall)
        if upload.state == "finalized":
            raise already_finalized()
        return upload

    def _base_url(self, call: OrgCall) -> str:
        """Where the caller reaches this server: upload URLs are absolute."""
        if self._public_url is not None:
            return self._public_url
        host = call.headers.get(b"host", b"")
        if not _HOST.fullmatch(host):
            raise BadRequest("send a Host header, or start the server with --public-url")
        return f"{call.request.scope['scheme']}://{host.decode()}"


class UploadForm:
    """The parts of one form. Only `file` may be large."""

    def __init__(self, content_type: bytes) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidBody("send the code as multipart/form-data, with the given fields and then `file`")
        self.fields: dict[str, bytearray] = {}
        self.file: bytearray | None = None
        self._parts = 0
        self._header = (bytearray(), bytearray())
        self._disposition = b""
        self._part = bytearray()
        self._limit = 0
        self._ended = False
        try:
            self._parser = MultipartParser(boundary, self._callbacks())  # type: ignore[arg-type]
        except FormParserError as exc:
            raise InvalidBody(f"the form cannot be read: {exc}") from exc

    def feed(self, chunk: bytes) -> None:
        """The next piece of the form. Raises InvalidBody, TooLarge, BundleTooLarge."""
        try:
            self._parser.write(chunk)
        except FormParserError as exc:
            raise InvalidBody(f"the form cannot be read: {exc}") from exc

    @property
    def is_complete(self) -> bool:
        """Whether the form has come to its end."""
        return self._ended

    def _callbacks(self) -> Mapping[str, object]:
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_data,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > UPLOAD_PARTS_MAX:
            raise TooLarge(f"an upload has at most {UPLOAD_PARTS_MAX} parts")
        self._disposition = b""

    def _end_header(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _begin_data(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("latin-1")
        self._part = bytearray()
        if name == "file":
            self._limit = BUNDLE_GZIPPED_BYTES_MAX if self.says_gzip else BUNDLE_BYTES_MAX
            self.file = self._part
        else:
            self._limit = UPLOAD_FIELD_BYTES_MAX
            self.fields[name] = self._part

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._part += data[start:end]
        if len(self._part) <= self._limit:
            return
        if self._part is self.file:
            raise _bundle_too_large()
        raise TooLarge(f"a field of an upload is at most {UPLOAD_FIELD_BYTES_MAX:,} bytes")

    def _end(self) -> None:
        self._ended = True

    @property
    def says_gzip(self) -> bool:
        """Whether the field content-encoding says that the file is gzipped."""
        return bytes(self.fields.get("content-encoding", b"")).strip().lower() == b"gzip"


def _code_to_store(form: UploadForm, *, gzipped: bool) -> bytes:
    """Raises as code_of."""
    return with_clean_source_map(code_of(form, gzipped=gzipped))


def code_of(form: UploadForm, *, gzipped: bool) -> bytes:
    """The JavaScript of a form. Raises InvalidBody, BundleTooLarge."""
    if not form.is_complete:
        raise InvalidBody("the form is cut off before its end")
    if form.file is None:
        raise InvalidBody("the form has no part named `file` with the code")
    code = bytes(form.file)
    if gzipped or form.says_gzip:
        if len(code) > BUNDLE_GZIPPED_BYTES_MAX:
            raise _bundle_too_large()
        code = _inflate(code)
    try:
        code.decode()
    except UnicodeDecodeError as exc:
        raise InvalidBody("the code is not UTF-8: was a gzipped file sent without gzip?") from exc
    return code


def _inflate(data: bytes) -> bytes:
    """One gzip member, inflated no further than the limit."""
    inflater = zlib.decompressobj(wbits=_GZIP)
    try:
        code = inflater.decompress(data, BUNDLE_BYTES_MAX + 1)
    except zlib.error as exc:
        raise InvalidBody("`file` is not gzip, and the upload says that it is") from exc
    if len(code) > BUNDLE_BYTES_MAX:
        raise _bundle_too_large()
    if not inflater.eof:
        raise InvalidBody("the gzipped code is cut off")
    if inflater.unused_data:
        raise InvalidBody("the gzipped code has something after its end")
    return code


def _bundle_too_large() -> BundleTooLarge:
    return BundleTooLarge(
        f"the code is larger than {BUNDLE_GZIPPED_BYTES_MAX:,} bytes gzipped, or {BUNDLE_BYTES_MAX:,} plain"
    )


def already_finalized() -> AlreadyFinalized:
    return AlreadyFinalized("the upload is finalized and its code never changes: create another one")
