"""Code uploads: a multipart form, read as a stream and never past its limits.

Source of the form: @statebacked/client 0.1.37, `uploadCode`: the given fields, `content-type`, for gzip
`content-encoding: gzip` (a field, not a header), and the code in `file`.
"""

import asyncio
import zlib
from collections.abc import Mapping
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from statebacked.api.bodies import check_length, feed_body
from statebacked.api.calls import Call, OpenHandler
from statebacked.api.replies import Reply
from statebacked.api.signatures import Signatures, unknown_signature, version_of
from statebacked.model.errors import AlreadyFinalized, BundleTooLarge, InvalidBody, TooLarge
from statebacked.model.limits import (
    BUNDLE_BYTES_MAX,
    BUNDLE_GZIPPED_BYTES_MAX,
    UPLOAD_FIELD_BYTES_MAX,
    UPLOAD_PARTS_MAX,
)
from statebacked.ports import Catalogue, Clock

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
        upload = await self._catalogue.find_upload(version_of(signed))
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
        bundle = await asyncio.to_thread(code_of, form, gzipped=upload.gzip)
        if not await self._catalogue.put_bundle(upload.id, bundle):
            raise already_finalized()
        return Reply(204)


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
    return AlreadyFinalized("the version is finalized and its code never changes: create another version")
