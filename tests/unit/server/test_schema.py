"""Whatever the OpenAPI document allows, and what it does not: no 5xx, and answers are as it says."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.python.asgi import shutdown_lifespans
from schemathesis.specs.openapi import checks

from limner.backends.fake import FakeBackend
from limner.errors import Unsupported
from limner.events import Event
from limner.ports import Order
from limner.server.app import build
from tests.support.services import fake_service, settings_for

_known: Any = checks
CHECKS = [
    _known.content_type_conformance,
    _known.response_schema_conformance,
    _known.status_code_conformance,
    _known.unsupported_method,
]
# Two never end, and one is there to say 503.
LEFT_OUT = ("/api/jobs/{job_id}/events", "/api/events", "/ready")
EXAMPLES = 4


class Quick(FakeBackend):
    """Refuses what would take long."""

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        if sum(plan.width * plan.height for plan in order.plans) > 2_000_000:
            raise Unsupported("This is too much here. Ask for less.")
        async for event in super().run(order):
            yield event


def test_answers_are_as_the_document_says(tmp_path: Path) -> None:
    # Requests go to the lane of remote backends, which the server itself paints.
    options = settings_for(tmp_path, server={"workers": 0, "open": True}, backend="fake")
    schema: Any = schemathesis.openapi.from_asgi("/openapi.json", build(fake_service(options, Quick())))
    wrong: list[str] = []
    statuses: set[int] = set()
    try:
        for result in schema.get_all_operations():
            operation = result.ok()
            if operation.path in LEFT_OUT:
                continue
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

                @settings(
                    max_examples=EXAMPLES,
                    derandomize=True,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=[
                        HealthCheck.too_slow,
                        HealthCheck.filter_too_much,
                        HealthCheck.data_too_large,
                    ],
                )
                @given(case=operation.as_strategy(generation_mode=mode))
                def check(case: Any) -> None:
                    if case.query:
                        case.query.pop("wait", None)
                    response = case.call_and_validate(checks=CHECKS, timeout=30)
                    assert response.status_code < 500, response.text
                    statuses.add(response.status_code)

                try:
                    check()
                except Unsatisfiable:
                    assert mode is GenerationMode.NEGATIVE  # there is no wrong way to ask for this
                except Exception as error:  # noqa: BLE001  # every operation's complaints are told together
                    wrong.append(f"{operation.label} ({mode.value}): {error}")
    finally:
        shutdown_lifespans()
    assert not wrong, "\n\n".join(wrong)
    assert statuses >= {200, 202, 400, 404, 422}
