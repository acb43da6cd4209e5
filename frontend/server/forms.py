"""`multipart/form-data` with a file, parsed while it arrives: the file goes to the disk, the fields stay within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from frontend.errors import InvalidMessage, MessageTooBig
from frontend.server.intake import Arriving

MOST_PARTS = 1000
MOST_FIELD_BYTES = 64 * 1024
"""Of all fields together, but for the file and for those that are not kept."""


class FormReader:
    """Takes the body in pieces of any size; `fields` by name, in the order of arrival."""

    def __init__(self, content_type: str | None, file: Arriving, file_field: str, unkept: Collection[str] = ()) -> None:
        """Fields named in `unkept` are taken for empty. Raises `InvalidMessage` for another kind of body."""
        kind, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidMessage(f"the body is not multipart/form-data; send a form with a field {file_field!r}")
        self.fields: dict[str, list[str]] = {}
        self.n_files = 0
        self._file, self._file_field, self._unkept = file, file_field, unkept
        self._n_parts = self._field_bytes = self._body_bytes = 0
        self._complete = False
        self._header, self._value = bytearray(), bytearray()
        self._name = ""
        self._part = bytearray()
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._finished,
                },
            )
        except FormParserError as error:
            raise InvalidMessage(f"the form cannot be read: {error}") from None

    async def read(self, pieces: AsyncIterator[bytes]) -> None:
        """Raises `InvalidMessage` for what is no form or ends early, `MessageTooBig` as soon as it is too much."""
        async for piece in pieces:
            self._body_bytes += len(piece)
            self._file.check(self._body_bytes)
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise InvalidMessage(f"the form cannot be read: {error}") from None
        if not self._complete:
            raise InvalidMessage("the form ends before its last boundary; send it whole")

    def _begin(self) -> None:
        self._n_parts += 1
        if self._n_parts > MOST_PARTS:
            raise MessageTooBig(f"a form of more than {MOST_PARTS} fields; send fewer")
        self._name, self._part = "", bytearray()

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, parameters = parse_options_header(self._value.decode("latin-1"))
            self._name = parameters.get(b"name", b"").decode(errors="replace")
        self._header, self._value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        if not self._name:
            raise InvalidMessage("a field of the form has no name; send Content-Disposition: form-data with one")
        self._field_bytes += len(self._name)
        if self._name == self._file_field:
            self.n_files += 1

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._file_field:
            if self.n_files == 1:
                self._file.write(data[start:end])
        elif self._name not in self._unkept:
            self._field_bytes += end - start
            if self._field_bytes > MOST_FIELD_BYTES:
                raise MessageTooBig(f"the form's fields are over {MOST_FIELD_BYTES} bytes beside the file; send less")
            self._part += data[start:end]

    def _end(self) -> None:
        if self._name != self._file_field:
            self.fields.setdefault(self._name, []).append(self._part.decode(errors="replace"))

    def _finished(self) -> None:
        self._complete = True
