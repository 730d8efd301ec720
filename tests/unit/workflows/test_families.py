"""What a family cannot do is refused before anything is painted."""

from __future__ import annotations

from typing import Any

import pytest

from limner.domain import GenerationRequest
from limner.errors import InvalidRequest, RequestError, Unsupported
from limner.workflows.families import edits_pictures, require_fitting

TWO = [{"upload": "a"}, {"upload": "b"}]


def asked(**fields: Any) -> GenerationRequest:
    return GenerationRequest.model_validate(fields)


@pytest.mark.parametrize(
    ("family", "fields", "kind", "told"),
    [
        ("sdxl", {"references": TWO}, InvalidRequest, "starts from one reference picture; this request has 2"),
        (None, {"references": TWO}, InvalidRequest, "starts from one reference picture; this request has 2"),
        ("sdxl", {"references": TWO, "references_as": "context"}, Unsupported, "SDXL, which cannot look at pictures"),
        ("flux", {"references": TWO * 5, "references_as": "context"}, InvalidRequest, "3 pictures at most.* has 10"),
        ("zimage", {"clip_skip": 2}, Unsupported, "where the layer of CLIP cannot be chosen"),
        ("sdxl", {"guidance": 3.5}, Unsupported, "is told no guidance"),
    ],
)
def test_what_a_family_cannot_do_is_refused(
    family: str | None, fields: dict[str, Any], kind: type[RequestError], told: str
) -> None:
    with pytest.raises(kind, match=told):
        require_fitting(asked(**fields), family)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("flux", {"references": TWO, "references_as": "context", "guidance": 2.5}),
        ("flux", {"references": TWO * 5, "references_as": "stitched"}),
        ("sd15", {"clip_skip": 2, "references": TWO[:1]}),
        (None, {"clip_skip": 2, "guidance": 3, "references": TWO, "references_as": "context"}),
    ],
)
def test_what_a_family_can_do_or_nobody_knows_passes(family: str | None, fields: dict[str, Any]) -> None:
    require_fitting(asked(**fields), family)


def test_kontext_is_told_by_its_name_since_its_weights_look_like_any_flux() -> None:
    assert edits_pictures("flux1-dev-kontext_fp8_scaled", "flux")
    assert not edits_pictures("flux1-dev", "flux")
    assert not edits_pictures("kontext", "sdxl")
