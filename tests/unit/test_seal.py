"""What is particular to AES-256-GCM; the rest is in the suite of `Seal`."""

import base64
import string

import pytest

from event_platform.adapters.seal import AesGcmSeal, key_from_base64

KEY = bytes(range(32))
ALPHABET = string.ascii_letters + string.digits + "-_"


@pytest.fixture
def seal() -> AesGcmSeal:
    return AesGcmSeal(KEY)


def test_a_sealed_text_names_its_version_and_goes_on_in_base64url(seal: AesGcmSeal) -> None:
    sealed = seal.seal("s3cret", context="a")
    assert sealed.startswith("v1.")
    assert set(sealed[3:]) <= set(ALPHABET)
    box = base64.urlsafe_b64decode(sealed[3:] + "=" * (-len(sealed[3:]) % 4))
    assert len(box) == 12 + len("s3cret") + 16  # nonce, ciphertext, tag


def test_another_version_is_not_opened(seal: AesGcmSeal) -> None:
    sealed = seal.seal("s3cret", context="a")
    for text in (f"v1.{sealed}", f"v2{sealed[2:]}", sealed[3:]):
        with pytest.raises(ValueError, match=r"known version|base64url"):
            seal.open(text, context="a")


def test_a_refusal_says_what_may_be_wrong(seal: AesGcmSeal) -> None:
    sealed = seal.seal("s3cret", context="a")
    with pytest.raises(ValueError, match=r"another key or for another context"):
        seal.open(sealed, context="b")


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
