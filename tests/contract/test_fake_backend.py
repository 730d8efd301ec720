"""The fake keeps the contract, so that a test against it says something about the others."""

from __future__ import annotations

import pytest

from limner.backends.fake import FakeBackend
from limner.errors import EngineFault, LimnerError, OutOfMemory
from limner.ports import Backend
from tests.contract.backend_contract import BackendContract, Trouble


class TestFakeBackend(BackendContract):
    tolerance = 0

    @pytest.fixture
    def backend(self) -> Backend:
        return FakeBackend()

    @pytest.fixture(params=[EngineFault("It broke. Report it."), OutOfMemory("It is full. Wait.")])
    def trouble(self, request: pytest.FixtureRequest) -> Trouble:
        error: LimnerError = request.param
        return Trouble(FakeBackend(failures={0: error, 1: error}), error.code, error.retryable)
