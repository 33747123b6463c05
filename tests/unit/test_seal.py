"""Sealed secrets open with the same key and context only."""

import base64
import secrets
import string

import pytest

from event_platform.adapters.seal import AesGcmSeal, key_from_base64

KEY = bytes(range(32))
ALPHABET = string.ascii_letters + string.digits + "-_"


@pytest.fixture
def seal() -> AesGcmSeal:
    return AesGcmSeal(KEY)


@pytest.mark.parametrize("plain", ["", "s3cret", "x" * 10_000, "zw\u00f6lf \u20ac \U0001f600\n\x00"])
def test_what_was_sealed_opens(seal: AesGcmSeal, plain: str) -> None:
    assert seal.open(seal.seal(plain, context="a"), context="a") == plain
    assert AesGcmSeal(KEY).open(seal.seal(plain, context="a"), context="a") == plain


def test_a_sealed_text_is_printable_and_does_not_show_the_secret(seal: AesGcmSeal) -> None:
    sealed = seal.seal("s3cret", context="a")
    assert sealed.startswith("v1.")
    assert set(sealed[3:]) <= set(ALPHABET)
    assert b"s3cret" not in base64.urlsafe_b64decode(sealed[3:] + "==")


def test_sealing_twice_gives_two_texts(seal: AesGcmSeal) -> None:
    assert len({seal.seal("s3cret", context="a") for _ in range(100)}) == 100


def test_another_context_does_not_open(seal: AesGcmSeal) -> None:
    sealed = seal.seal("s3cret", context="a")
    with pytest.raises(ValueError, match="another context"):
        seal.open(sealed, context="b")


def test_another_key_does_not_open(seal: AesGcmSeal) -> None:
    with pytest.raises(ValueError, match="another key"):
        AesGcmSeal(secrets.token_bytes(32)).open(seal.seal("s3cret", context="a"), context="a")


def test_no_character_can_be_changed(seal: AesGcmSeal) -> None:
    sealed = seal.seal("s3cret", context="a")
    for at, was in enumerate(sealed):
        for other in ALPHABET + ".=+/ ":
            if other == was:
                continue
            with pytest.raises(ValueError, match=r"."):
                seal.open(sealed[:at] + other + sealed[at + 1 :], context="a")


def test_nothing_can_be_cut_off_or_added(seal: AesGcmSeal) -> None:
    sealed = seal.seal("s3cret", context="a")
    changed = [sealed[:length] for length in range(len(sealed))]
    changed += [f"{sealed}{more}" for more in ("A", "=", "\n", ".A")] + [
        f" {sealed}",
        f"v1.{sealed}",
        f"v2{sealed[2:]}",
    ]
    for text in changed:
        with pytest.raises(ValueError, match=r"."):
            seal.open(text, context="a")


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AesGcmSeal(bytes(size))


def test_a_key_is_read_from_base64() -> None:
    text = base64.b64encode(KEY).decode()
    assert key_from_base64(text) == KEY
    assert key_from_base64(f"{text}\n") == KEY


@pytest.mark.parametrize(
    "text",
    ["", "s3cret", "\u00e4" * 44, base64.b64encode(bytes(31)).decode(), base64.b64encode(bytes(33)).decode()],
)
def test_a_bad_key_is_refused_by_its_name_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="AEP_SECRETS_KEY") as raised:
        key_from_base64(text)
    assert not text or text not in str(raised.value)
