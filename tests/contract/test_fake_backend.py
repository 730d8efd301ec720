"""The fake keeps the contract, so that a test against it says something about the others."""

from __future__ import annotations

import pytest

from limner.backends.fake import FakeBackend
from limner.ports import Backend
from tests.contract.backend_contract import BackendContract


class TestFakeBackend(BackendContract):
    tolerance = 0

    @pytest.fixture
    def backend(self) -> Backend:
        return FakeBackend()
