"""Forms, parsed while they arrive: in pieces of any size, within bounds, and whatever is sent."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import InvalidMessage, MessageTooBig
from frontend.server.forms import MOST_FIELD_BYTES, MOST_PARTS, FormReader
from frontend.server.intake import Arriving

TYPE = "multipart/form-data; boundary=b"


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for i in range(0, len(body), size):
        yield body[i : i + size]


async def read(
    body: bytes, content_type: str | None = TYPE, *, size: int = 1000, limit: int = 10**6
) -> tuple[FormReader, bytes]:
    file = io.BytesIO()
    form = FormReader(content_type, Arriving(file, limit), "file", ("unkept",))
    await form.read(pieces(body, size))
    return form, file.getvalue()


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b--\r\n"


@given(st.binary(max_size=3000), st.text(max_size=50), st.integers(1, 400))
async def test_pieces_of_any_size_are_the_same_form(data: bytes, text: str, size: int):
    fields = {"prompt": text, "include[]": ["a", "b"]}
    request = httpx.Request("POST", "http://x", data=fields, files={"file": ('a "b".wav', data)})
    form, written = await read(request.read(), request.headers["content-type"], size=size)
    assert written == data
    assert form.fields == {"prompt": [text], "include[]": ["a", "b"]}
    assert form.n_files == 1


async def test_a_file_needs_no_file_name():
    form, written = await read(body(part("file", b"abc"), part("model", b"x")))
    assert (written, form.fields) == (b"abc", {"model": ["x"]})


async def test_the_second_file_is_counted_and_not_written():
    form, written = await read(body(part("file", b"abc"), part("file", b"def")))
    assert (written, form.n_files) == (b"abc", 2)


async def test_what_is_not_kept_may_be_long():
    form, _ = await read(body(part("unkept", b"x" * 2 * MOST_FIELD_BYTES), part("model", b"x")))
    assert form.fields == {"unkept": [""], "model": ["x"]}


@pytest.mark.parametrize(
    "sent",
    [
        body(part("prompt", b"x" * (MOST_FIELD_BYTES + 1))),
        body(*[part("keywords[]", b"x" * 1000)] * 70),
        body(*[part("keywords[]", b"")] * (MOST_PARTS + 1)),
        body(part("file", b"x" * 1_000_001)),
        body(part("unkept", b"x" * 1_000_001)),
        b"\r\n" * 500_001,
        body() + b"\r\n" * 500_001,
    ],
    ids=["a field", "fields together", "empty fields", "the file", "a field not kept", "before the form", "after it"],
)
async def test_too_much(sent: bytes):
    with pytest.raises(MessageTooBig):
        await read(sent)


async def test_too_much_is_refused_before_it_is_all_there():
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield part("file", b"")[:-2]
        while True:
            sent += 1000
            yield bytes(1000)

    with pytest.raises(MessageTooBig, match="limit of 50000 bytes"):
        await FormReader(TYPE, Arriving(io.BytesIO(), 50_000), "file").read(endless())
    assert sent <= 50_000


@pytest.mark.parametrize(
    ("sent", "content_type"),
    [
        (b"", TYPE),
        (b"--b", TYPE),
        (b"{}", "application/json"),
        (b"", None),
        (b"", "multipart/form-data"),
        (b"", f"multipart/form-data; boundary={'x' * 1000}"),
        (b"nothing of the kind", TYPE),
        (part("file", b"cut off"), TYPE),
        (body(b"--b\r\n\r\nno name\r\n"), TYPE),
        (body(b"--b\r\nContent-Disposition: form-data\r\n\r\nno name\r\n"), TYPE),
        (b"--b\r\n" + b"X: y\r\n" * 1000, TYPE),
        (b"--b\r\nX: " + b"y" * 100_000, TYPE),
    ],
)
async def test_what_is_no_form(sent: bytes, content_type: str | None):
    with pytest.raises(InvalidMessage):
        await read(sent, content_type)


TOKENS = st.sampled_from([b"--b", b"\r\n", b"--", b"Content-Disposition: form-data; name=x", b":", b"\0"])


@given(st.lists(TOKENS | st.binary()))
async def test_any_bytes_are_a_form_or_a_clean_error(parts: list[bytes]):
    with contextlib.suppress(InvalidMessage, MessageTooBig):
        await read(b"".join(parts), size=7)
