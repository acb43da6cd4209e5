"""Who may connect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.control.auth import Authenticator
from frontend.errors import Unauthorized
from frontend.protocols.base import Handshake
from frontend.protocols.native import PATH, NativeAdapter

HERE = {"peer": "127.0.0.1", "origin": None, "host": "127.0.0.1:8080"}


def shown(query_key: str | None = None, authorization: str | None = None) -> str | None:
    """The key of a handshake, as the native protocol reads it."""
    query = {"api_key": [query_key]} if query_key is not None else {}
    headers = {"authorization": authorization} if authorization is not None else {}
    return NativeAdapter().key(Handshake(PATH, query, headers))


def admitted(keys: list[str], query_key: str | None = None, authorization: str | None = None, **request: str | None) -> bool:
    """A refusal must be `Unauthorized`; anything else is a defect and leaves here."""
    try:
        Authenticator(keys).check(shown(query_key, authorization), **{**HERE, **request})
    except Unauthorized:
        return False
    return True


# --- without keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_without_keys_clients_on_this_machine_are_served(peer: str):
    assert Authenticator([]).open_to_loopback
    assert admitted([], peer=peer)


@pytest.mark.parametrize(
    "peer", ["192.168.1.5", "10.0.0.1", "8.8.8.8", "fe80::1", "::ffff:192.168.1.5", "::", "0.0.0.0", "", "localhost"]
)
def test_without_keys_nobody_else_is_served(peer: str):
    assert not admitted([], peer=peer)


def test_without_keys_a_key_does_not_open_the_door_to_others():
    assert not admitted([], peer="192.168.1.5", query_key="anything")


def test_the_refusal_says_what_to_set():
    with pytest.raises(Unauthorized, match="VOICEFORGE_API_KEYS"):
        Authenticator([]).check(None, **{**HERE, "peer": "192.168.1.5"})


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://localhost:8080", "localhost:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
        (None, "127.0.0.1:8080"),
    ],
)
def test_without_keys_our_own_page_may_connect(origin: str | None, host: str):
    assert admitted([], origin=origin, host=host)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://evil.example:8080",
        "http://127.0.0.1:8081",
        "http://127.0.0.1",
        "http://127.0.0.1:8080.evil.example",
        "http://127.0.0.1:8080@evil.example",
        "null",
        "",
        "file://",
    ],
)
def test_without_keys_a_page_of_another_site_may_not_connect(origin: str):
    assert not admitted([], origin=origin)


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://]", "http://[evil]", "//[v1.x", "\x00"])
def test_an_origin_that_is_no_address_is_refused_like_any_other(origin: str):
    assert not admitted([], origin=origin)


def test_an_origin_is_not_taken_for_ours_where_the_host_is_missing():
    assert not admitted([], origin="http://127.0.0.1:8080", host=None)


# --- with keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        {"query_key": "secret"},
        {"authorization": "Token secret"},
        {"authorization": "Bearer secret"},
        {"authorization": "token secret"},
        {"authorization": "BEARER  secret "},
        {"query_key": "", "authorization": "Token secret"},
    ],
)
def test_a_key_is_taken_from_the_query_or_the_header(request_: dict[str, str]):
    assert admitted(["other", "secret"], peer="8.8.8.8", **request_)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"query_key": ""},
        {"query_key": "secre"},
        {"query_key": "Secret"},
        {"query_key": "secret "},
        {"authorization": "secret"},
        {"authorization": "Basic secret"},
        {"authorization": "Token"},
        {"authorization": "Token "},
        {"authorization": "Token secret2"},
        {"query_key": "wrong", "authorization": "Token secret"},
    ],
)
def test_a_missing_or_wrong_key_is_refused_even_on_this_machine(request_: dict[str, str]):
    assert not admitted(["other", "secret"], **request_)


def test_with_a_key_a_page_of_any_site_may_connect():
    assert admitted(["secret"], peer="8.8.8.8", origin="https://app.example", query_key="secret")


def test_a_missing_key_is_answered_with_how_to_send_one_and_a_wrong_key_is_not_repeated():
    with pytest.raises(Unauthorized, match=r"Authorization: Bearer KEY \(or Token KEY\)"):
        Authenticator(["secret"]).check(None, **HERE)
    with pytest.raises(Unauthorized) as error:
        Authenticator(["secret"]).check("hunter2", **HERE)
    assert "hunter2" not in str(error.value)


def from_wire(header: bytes) -> str:
    """As websockets decodes a header."""
    return header.decode("iso-8859-1")


def test_a_key_of_other_letters_than_ascii_is_compared_like_any_other():
    assert not admitted(["secret"], authorization=from_wire("Token schlüssel".encode()))
    assert not admitted(["secret"], query_key="鍵")
    assert admitted(["secret", "鍵"], query_key="鍵")


HEADER = st.none() | st.binary(max_size=30).map(from_wire) | st.text("htp:/[].@0128Token earBs", max_size=30)


@given(
    keys=st.sampled_from([[], ["secret"]]),
    request_=st.fixed_dictionaries(
        {
            "query_key": st.none() | st.text(max_size=20),
            "authorization": HEADER | HEADER.map(lambda key: f"Token {key}"),
            "peer": st.text(max_size=20) | st.just("::1"),
            "origin": HEADER | HEADER.map(lambda rest: f"http://{rest}"),
        }
    ),
)
def test_any_request_is_admitted_or_refused_and_nothing_else(keys: list[str], request_: dict[str, str | None]):
    assert admitted(keys, **request_) in (True, False)
