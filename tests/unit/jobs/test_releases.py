"""A database that another release of limner writes as well."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text, update

from limner.domain import JobStatus
from limner.errors import ConfigError
from limner.jobs.database import Database
from limner.jobs.gallery import Gallery, ImageFilter
from limner.jobs.records import RELEASE, JobFilter
from limner.jobs.store import JobStore
from limner.jobs.tables import images, jobs, templates
from limner.jobs.turns import next_ids
from tests.support.jobs import new_job, stored_picture

PROMPT = "a cat, and what only they understand"
WRITTEN_ELSEWHERE: list[dict[str, Any]] = [
    {"request": {"prompt": PROMPT, "mood": "happy"}},
    {"plans": [{"film": "noir"}]},
]


async def foreign_job(store: JobStore, release: str = "99.1.0", **columns: Any) -> str:
    """The id of a waiting job of a newer release."""
    job, _ = await store.create(new_job(prompt=PROMPT, count=2, webhook="https://example.com/hook"))
    async with store.database.begin() as connection:
        await connection.execute(update(jobs).where(jobs.c.id == job.id).values(release=release, **columns))
    return job.id


@pytest.mark.parametrize("columns", WRITTEN_ELSEWHERE, ids=["request", "plans"])
async def test_a_job_of_a_newer_release_fails_with_that_as_its_reason(store: JobStore, columns: dict[str, Any]) -> None:
    job_id = await foreign_job(store, **columns)
    mine, _ = await store.create(new_job())
    assert await store.begin(job_id, "w", 30) is None
    ended = await store.get(job_id)
    assert ended.status is JobStatus.FAILED and ended.error is not None
    assert f"written by limner 99.1.0, and this worker, limner {RELEASE}, does not" in ended.error.message
    assert "Run workers of limner 99.1.0, and retry the job." in ended.error.message
    assert [event.type for event in await store.events(job_id)] == ["stage_update", "error", "done"]
    async with store.database.read() as connection:
        assert await next_ids(connection, "native", (), None, 10) == [mine.id]
    assert await store.begin(mine.id, "w", 30) is not None


@pytest.mark.parametrize("columns", WRITTEN_ELSEWHERE, ids=["request", "plans"])
async def test_a_job_of_a_newer_release_is_shown_with_its_prompt(store: JobStore, columns: dict[str, Any]) -> None:
    job_id = await foreign_job(store, **columns)
    await store.create(new_job())
    listed = (await store.list(JobFilter())).items
    assert [job.id for job in listed][1] == job_id
    assert listed[1].request.prompt == PROMPT and len(listed[1].pictures) == 2
    assert (await store.cancel(job_id)).status is JobStatus.CANCELLED
    assert (await store.retry(job_id)).status is JobStatus.PENDING


async def test_a_damaged_row_of_this_release_is_said_to_be_one(store: JobStore) -> None:
    job_id = await foreign_job(store, RELEASE, request={"prompt": 3})
    assert await store.begin(job_id, "w", 30) is None
    error = (await store.get(job_id)).error
    assert error is not None and "is damaged: limner does not understand `prompt`. Send" in error.message


async def test_what_a_newer_release_says_of_an_end_is_read_as_far_as_it_goes(store: JobStore) -> None:
    fault = {"code": "backend", "message": "It broke.", "retryable": True, "severity": 9}
    job_id = await foreign_job(store, status="failed", error=fault)
    error = (await store.get(job_id)).error
    assert error is not None and (error.message, error.retryable) == ("It broke.", True)


async def test_a_picture_of_a_newer_release_does_not_hide_the_others(store: JobStore, gallery: Gallery) -> None:
    first, second = [await stored_picture(store, gallery, prompt=prompt) for prompt in ("a cat", "a dog")]
    async with store.database.begin() as connection:
        await connection.execute(update(images).where(images.c.id == first.id).values(recipe={"form": 2}))
    listed = (await gallery.list(ImageFilter())).items
    assert [image.id for image in listed] == [second.id, first.id]
    assert (listed[1].prompt, listed[1].recipe.checkpoint) == ("a cat", first.recipe.checkpoint)
    assert "Another release" in listed[1].recipe.warnings[0]


async def test_a_saved_request_of_a_newer_release_is_left_out(store: JobStore, gallery: Gallery) -> None:
    request = new_job().request
    kept, foreign = [await gallery.add_template("local", name, request) for name in ("a", "b")]
    async with store.database.begin() as connection:
        await connection.execute(
            update(templates).where(templates.c.id == foreign.id).values(request={"mood": "happy"})
        )
    assert [template.id for template in await gallery.list_templates("local")] == [kept.id]


async def test_a_database_of_a_newer_form_is_refused(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match=r"A newer release of limner has changed .*'9999'.*Update limner"):
        await database.upgrade()
