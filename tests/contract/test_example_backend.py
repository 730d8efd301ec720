"""The example of a backend in a package of its own keeps the contract, and is announced as limner looks for it."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import pytest

from limner.config import load_settings
from limner.ports import Backend
from limner.studio import ENTRY_POINTS
from tests.contract.backend_contract import BackendContract

PACKAGE = Path(__file__).parents[2] / "examples" / "backend-package"


@pytest.fixture(scope="module")
def package() -> Generator[ModuleType]:
    """The package, imported from where it lies."""
    name = "limner_postcards"
    spec = importlib.util.spec_from_file_location(name, PACKAGE / "src" / name / "__init__.py")
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


class TestPostcards(BackendContract):
    remote = True
    stages = False
    tolerance = 0
    lacks = frozenset({"references", "masks", "trouble"})

    @pytest.fixture
    def backend(self, package: ModuleType, tmp_path: Path) -> Backend:
        return package.make(load_settings({"home": str(tmp_path)}, environ={}, folder=tmp_path))

    def test_it_is_announced_where_limner_looks(self, package: ModuleType) -> None:
        project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
        module, _, made = project["entry-points"][ENTRY_POINTS]["postcards"].partition(":")
        assert (module, callable(getattr(package, made))) == (package.__name__, True)
