"""What is particular to AES-256-GCM; the rest is in the suite of `Seal`."""

import base64
import hashlib
import string

import pytest

from event_platform.adapters.seal import AesGcmSeal, KeylessSeal, SplitSeal, key_id, keys_from_base64

KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))
ALPHABET = string.ascii_letters + string.digits + "-_"


@pytest.fixture
def seal() -> AesGcmSeal:
    return AesGcmSeal(KEY)


def test_a_sealed_text_names_its_key_and_goes_on_in_base64url(seal: AesGcmSeal) -> None:
    sealed = seal.seal("s3cret", context="a")
    name, _, text = sealed.partition(".")
    assert name == seal.key_id == key_id(KEY)
    assert set(text) <= set(ALPHABET)
    box = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert len(box) == 12 + len("s3cret") + 16  # nonce, ciphertext, tag


def test_a_keys_name_tells_nothing_of_it() -> None:
    assert key_id(KEY) == hashlib.sha256(KEY).hexdigest()[:8]


def test_the_first_key_seals_and_every_key_opens() -> None:
    old, both, new = AesGcmSeal(KEY), AesGcmSeal(OTHER_KEY, KEY), AesGcmSeal(OTHER_KEY)
    assert both.open(old.seal("s3cret", context="a"), context="a") == "s3cret"
    sealed = both.seal("s3cret", context="a")
    assert new.open(sealed, context="a") == "s3cret"
    with pytest.raises(ValueError, match="another key"):
        old.open(sealed, context="a")


def test_the_name_of_another_key_does_not_open() -> None:
    both = AesGcmSeal(KEY, OTHER_KEY)
    _, _, text = both.seal("s3cret", context="a").partition(".")
    for sealed in (f"{key_id(OTHER_KEY)}.{text}", f"{key_id(KEY)}.{key_id(KEY)}.{text}", text):
        with pytest.raises(ValueError, match=r"another key|changed since|base64url"):
            both.open(sealed, context="a")


def test_a_refusal_says_what_may_be_wrong(seal: AesGcmSeal) -> None:
    sealed = seal.seal("s3cret", context="a")
    with pytest.raises(ValueError, match="for another context"):
        seal.open(sealed, context="b")


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    for keys in ([bytes(size)], [KEY, bytes(size)], []):
        with pytest.raises(ValueError, match="32 bytes"):
            AesGcmSeal(*keys)


def test_keys_are_read_from_base64() -> None:
    first, second = (base64.b64encode(key).decode() for key in (KEY, OTHER_KEY))
    assert keys_from_base64(first) == [KEY]
    for text in (f"{first},{second}", f" {first}, {second}\n", f"{first}\n{second}\n"):
        assert keys_from_base64(text) == [KEY, OTHER_KEY]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "s3cret",
        "\u00e4" * 44,
        base64.b64encode(bytes(31)).decode(),
        base64.b64encode(bytes(33)).decode(),
        base64.b64encode(KEY).decode() + ",s3cret",
    ],
)
def test_a_bad_key_is_refused_by_its_name_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="AEP_SECRETS_KEY") as raised:
        keys_from_base64(text)
    assert len(text) < 2 or text not in str(raised.value)


def test_without_a_key_secrets_stay_sealed_and_go_back_as_they_were(seal: AesGcmSeal) -> None:
    sealed = seal.seal("s3cret", context="a")
    keyless = KeylessSeal()
    assert keyless.open(sealed, context="a") == sealed
    assert keyless.seal(sealed, context="a") == sealed


@pytest.mark.parametrize("plain", ["", "s3cret", "0123abcd", "0123abcd.", "0123abcd.a b", "0123ABCD.abcd"])
def test_without_a_key_nothing_new_is_sealed(plain: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        KeylessSeal().seal(plain, context="a")


def test_the_registry_has_a_key_of_its_own() -> None:
    records, registry = AesGcmSeal(KEY), AesGcmSeal(OTHER_KEY)
    both = SplitSeal(records, registry)
    for context, key in (("0197f0d3-0000-7000-8000-000000000000", records), ("tenant https://p", registry)):
        sealed = both.seal("s3cret", context=context)
        assert key.open(sealed, context=context) == "s3cret"
        assert both.open(key.seal("s3cret", context=context), context=context) == "s3cret"
    with pytest.raises(ValueError, match="another key"):
        both.open(records.seal("s3cret", context="tenant https://p"), context="tenant https://p")
