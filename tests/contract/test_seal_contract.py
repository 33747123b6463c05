"""AES-256-GCM passes the suite of `Seal`."""

import pytest

from contract.suites.seal import MakeSeal, SealContract
from event_platform.adapters.seal import AesGcmSeal


class TestAesGcmSeal(SealContract):
    @pytest.fixture
    def make_seal(self) -> MakeSeal:
        return lambda key: AesGcmSeal(key.to_bytes(32))
