"""`limner doctor` on what is stored: it looks without touching, and repairs when it is asked to."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import limner.studio
from limner.domain import ImageRecord
from limner.service import Service
from tests.support.databases import postgres_database
from tests.support.jobs import stored_picture
from tests.support.services import fake_service, settings_for
from tests.unit.cli.conftest import Terminal

NOTHING = {
    "lost_files": 0,
    "missing_pictures": 0,
    "missing_thumbnails": 0,
    "missing_uploads": 0,
    "abandoned_jobs": 0,
    "unended_jobs": 0,
    "leftovers": 0,
}


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is not what these tests are about; looking at it takes seconds."""
    monkeypatch.setattr(limner.studio, "missing_packages", lambda: ["torch"])


def within(home: Path, work: Callable[[Service], Coroutine[Any, Any, Any]], **groups: Any) -> Any:
    """What `work` answers with a service in this home."""

    async def run() -> Any:
        async with fake_service(settings_for(home, **groups)) as service:
            return await work(service)

    return asyncio.run(run())


async def paint(service: Service) -> list[ImageRecord]:
    return [await stored_picture(service.store, service.gallery) for _ in range(3)]


@pytest.fixture
def pictures(terminal: Terminal) -> list[ImageRecord]:
    return within(terminal.folder / "home", paint)


def path_of(terminal: Terminal, key: str) -> Path:
    return terminal.folder / "home/pictures" / key


def problems(terminal: Terminal) -> list[str]:
    """What is said to be wrong, without the engine that is missing here."""
    return [told for told in terminal.json["problems"] if "The engine needs packages" not in told]


def forget(terminal: Terminal, image: ImageRecord) -> None:
    """Remove a job's rows and leave its files, as an end at the wrong moment does."""
    with sqlite3.connect(terminal.folder / "home/limner.db") as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("DELETE FROM jobs WHERE id = ?", (image.job_id,))
    connection.close()


@pytest.mark.parametrize("flags", [(), ("--repair",)], ids=["look", "repair"])
def test_no_database_is_made_where_there_is_none(terminal: Terminal, flags: tuple[str, ...]) -> None:
    terminal.run("doctor", "--json", *flags)
    assert problems(terminal) == []
    assert "database" not in terminal.json and "wrong" not in terminal.json
    assert terminal.files == []


def test_what_is_whole_is_said_to_be(terminal: Terminal, pictures: list[ImageRecord]) -> None:
    terminal.run("doctor", "--json")
    assert problems(terminal) == []
    assert (terminal.json["files"], terminal.json["wrong"]) == (6, NOTHING)
    assert terminal.json["database"] == "sqlite:///FOLDER/home/limner.db"
    terminal.run("doctor")
    assert "\ndatabase  sqlite:///FOLDER/home/limner.db\nfiles     6\n" in terminal.out


def test_looking_counts_and_changes_nothing(terminal: Terminal, pictures: list[ImageRecord]) -> None:
    forget(terminal, pictures[0])
    path_of(terminal, pictures[1].key).unlink()
    path_of(terminal, pictures[2].thumbnail_key).unlink()
    before = terminal.files
    for _ in range(2):
        terminal.run("doctor", "--json")
        assert terminal.code == 1
        assert terminal.json["wrong"] == NOTHING | {
            "lost_files": 2,
            "missing_pictures": 1,
            "missing_thumbnails": 1,
        }
        assert problems(terminal) == [
            "files without a picture: 2. `limner doctor --repair` puts that right.",
            "pictures without their file: 1. `limner doctor --repair` puts that right.",
            "pictures without their thumbnail: 1. `limner doctor --repair` puts that right.",
        ]
    assert [name for name in terminal.files if "limner.db" not in name] == [
        name for name in before if "limner.db" not in name
    ]


def test_repairing_puts_right_and_says_what_it_did(terminal: Terminal, pictures: list[ImageRecord]) -> None:
    forget(terminal, pictures[0])
    path_of(terminal, pictures[1].key).unlink()
    path_of(terminal, pictures[2].thumbnail_key).unlink()
    terminal.run("doctor", "--repair")
    repaired = [line for line in terminal.out.splitlines() if line.startswith("repaired: ")]
    assert repaired == [
        "repaired: files without a picture: 2, moved to FOLDER/home/lost+found",
        "repaired: pictures without their file: 1, their jobs say so and can be retried",
        "repaired: pictures without their thumbnail: 1, drawn anew",
    ]
    assert f"home/lost+found/{pictures[0].key}" in terminal.files
    assert path_of(terminal, pictures[2].thumbnail_key).is_file()
    terminal.run("doctor", "--json", "--repair")
    assert (problems(terminal), terminal.json["wrong"], terminal.json["repaired"]) == ([], NOTHING, NOTHING)


def test_repairing_is_reported_as_json(terminal: Terminal, pictures: list[ImageRecord]) -> None:
    forget(terminal, pictures[0])
    terminal.run("doctor", "--json", "--repair")
    assert terminal.json["repaired"] == NOTHING | {"lost_files": 2}
    assert (terminal.json["wrong"], terminal.json["files"]) == (NOTHING, 4)


def test_a_disk_that_is_not_there_is_not_taken_for_lost_pictures(
    terminal: Terminal, pictures: list[ImageRecord]
) -> None:
    shutil.move(terminal.folder / "home/pictures", terminal.folder / "elsewhere")
    terminal.run("doctor", "--json", "--repair")
    assert terminal.code == 1
    assert problems(terminal) == [
        "Storage and database have no picture in common (files without a picture: 0, pictures without their file: 3). "
        "Check `storage` and `database.url`, and that the disk is mounted; if they are right, use --repair --force."
    ]
    shutil.move(terminal.folder / "elsewhere", terminal.folder / "home/pictures")
    terminal.run("doctor", "--json", "--repair")
    assert (problems(terminal), terminal.json["wrong"]) == ([], NOTHING)
    shutil.rmtree(terminal.folder / "home/pictures")
    terminal.run("doctor", "--json", "--repair", "--force")
    assert (problems(terminal), terminal.json["repaired"]["missing_pictures"]) == ([], 3)


def test_a_database_that_cannot_be_read_is_a_problem(terminal: Terminal) -> None:
    (terminal.folder / "home").mkdir()
    (terminal.folder / "home/limner.db").write_bytes(b"no database, but longer than nothing at all " * 100)
    terminal.run("doctor", "--json")
    assert terminal.code == 1
    assert "The database cannot be used (file is not a database)" in problems(terminal)[0]


def test_a_bucket_that_does_not_answer_is_a_problem(terminal: Terminal, pictures: list[ImageRecord]) -> None:
    terminal.run(
        "doctor",
        "--json",
        LIMNER_STORAGE__URL="s3://pictures",
        LIMNER_STORAGE__ENDPOINT="http://127.0.0.1:1",
        LIMNER_STORAGE__ALLOW_HTTP="true",
        LIMNER_STORAGE__ACCESS_KEY_ID="me",
        LIMNER_STORAGE__SECRET_ACCESS_KEY="very-secret",
        LIMNER_STORAGE__TIMEOUT_S="1",
    )
    assert terminal.code == 1
    assert "could not be listed (http://127.0.0.1:1" in problems(terminal)[0]
    assert "very-secret" not in terminal.out + terminal.err


def test_postgresql_is_looked_at_and_repaired_without_showing_its_password(terminal: Terminal, postgres: str) -> None:
    home = terminal.folder / "home"
    with postgres_database(postgres) as url:
        secret = url.replace("@", ":very-secret@", 1) if ":@" not in url else url.replace(":@", ":very-secret@", 1)
        terminal.run("doctor", "--json", LIMNER_DATABASE__URL=url)
        assert problems(terminal) == [] and "wrong" not in terminal.json  # no tables yet, and none are made
        painted = within(home, paint, database={"url": url})
        path_of(terminal, painted[0].key).unlink()
        terminal.run("doctor", "--json", "--repair", LIMNER_DATABASE__URL=secret)
        assert (problems(terminal), terminal.json["repaired"]["missing_pictures"]) == ([], 1)
        assert "very-secret" not in terminal.out + terminal.err
        terminal.run("doctor", "--json", LIMNER_DATABASE__URL=secret)
        assert (terminal.json["wrong"], terminal.json["files"]) == (NOTHING, 4)
