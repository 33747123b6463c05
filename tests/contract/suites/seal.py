"""What every way to encrypt secrets for the store must do: the port `Seal`."""

import base64
import string
from collections.abc import Callable

import pytest

from event_platform.ports import Seal

MakeSeal = Callable[[int], Seal]
"""Makes a seal with the key of that number; the same number is the same key, whichever seal has it."""

CHARACTERS = string.ascii_letters + string.digits + "-_.=+/ "


class SealContract:
    """Subclasses provide `make_seal`."""

    @pytest.fixture
    def make_seal(self) -> MakeSeal:
        raise AssertionError("a subclass makes its seals here")

    @pytest.fixture
    def seal(self, make_seal: MakeSeal) -> Seal:
        return make_seal(1)

    @pytest.mark.parametrize("plain", ["", "s3cret", "x" * 10_000, "zw\u00f6lf \u20ac \U0001f600\n\x00"])
    @pytest.mark.parametrize("context", ["a", "", "tenant https://p\u00efm.example.com"])
    def test_what_was_sealed_opens(self, seal: Seal, make_seal: MakeSeal, plain: str, context: str) -> None:
        sealed = seal.seal(plain, context=context)
        assert seal.open(sealed, context=context) == plain
        assert make_seal(1).open(sealed, context=context) == plain

    def test_a_sealed_text_is_printable_and_does_not_show_the_secret(self, seal: Seal) -> None:
        sealed = seal.seal("s3cret", context="a")
        assert sealed.isascii()
        assert sealed.isprintable()
        assert " " not in sealed
        for shown in ("s3cret", b"s3cret".hex(), *(_within_base64(b"s3cret", at) for at in range(3))):
            assert shown not in sealed

    def test_sealing_twice_gives_two_texts(self, seal: Seal) -> None:
        assert len({seal.seal("s3cret", context="a") for _ in range(100)}) == 100

    @pytest.mark.parametrize(
        ("context", "other"),
        [("a", "b"), ("a", "A"), ("a", ""), ("", "a"), ("a", "aa"), ("ab", "a"), ("a", "a ")],
    )
    def test_another_context_does_not_open(self, seal: Seal, context: str, other: str) -> None:
        sealed = seal.seal("s3cret", context=context)
        assert "s3cret" not in refusal(seal, sealed, context=other)

    def test_another_key_does_not_open(self, seal: Seal, make_seal: MakeSeal) -> None:
        assert "s3cret" not in refusal(make_seal(2), seal.seal("s3cret", context="a"))

    def test_no_character_can_be_changed(self, seal: Seal) -> None:
        sealed = seal.seal("s3cret", context="a")
        for at, was in enumerate(sealed):
            for other in CHARACTERS.replace(was, ""):
                refusal(seal, sealed[:at] + other + sealed[at + 1 :])

    def test_nothing_can_be_cut_off_or_added(self, seal: Seal) -> None:
        sealed = seal.seal("s3cret", context="a")
        for length in range(len(sealed)):
            refusal(seal, sealed[:length])
            refusal(seal, sealed[length + 1 :])
        for more in ("A", "=", "\n", ".A", sealed):
            refusal(seal, sealed + more)
        refusal(seal, f" {sealed}")

    @pytest.mark.parametrize("text", ["", ".", "s3cret", "\u00e4", "\x00", "=" * 64, "A" * 64])
    def test_what_was_never_sealed_does_not_open(self, seal: Seal, text: str) -> None:
        refusal(seal, text)


def refusal(seal: Seal, sealed: str, *, context: str = "a") -> str:
    """What it says to a text that it does not open."""
    with pytest.raises(ValueError, match=r".") as raised:
        seal.open(sealed, context=context)
    return str(raised.value)


def _within_base64(plain: bytes, at: int) -> str:
    """The characters that stand for `plain` alone when `at` bytes of a group of three come before it."""
    text = base64.b64encode(bytes(at) + plain + bytes(-(at + len(plain)) % 3)).decode()
    return text[-(-at * 4 // 3) : (at + len(plain)) * 4 // 3]
