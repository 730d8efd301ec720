"""Say in our own errors what the hub's client says in its own, with what to do next."""

from __future__ import annotations

import difflib
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from limner.engine.tensor_files import some
from limner.errors import InvalidRequest, LimnerError, NotFound, Refused, Unreachable

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

_TRUE = ("1", "ON", "YES", "TRUE")
_CLIENTS = ("httpx", "httpx2", "httpcore", "requests")


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network, now or when the hub's client was imported."""
    from huggingface_hub import is_offline_mode

    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE or is_offline_mode()


@contextmanager
def translated(api: HfApi, repository: str, revision: str | None, file: str = "") -> Generator[None]:
    """Turn the errors of a question to the hub into ours: `NotFound`, `Refused` or `Unreachable`."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as error:
        raise _refusal(api, repository, revision, file, error) from error
    except HFValidationError as error:
        raise InvalidRequest(f"`{repository}` is not the name of a repository. Write it as `owner/name`.") from error
    except OfflineModeIsEnabled as error:
        raise Unreachable(f"`{repository}` cannot be fetched: HF_HUB_OFFLINE is set. Unset it.") from error
    except LimnerError:
        raise
    except Exception as error:  # each version of the client brings another library, with errors of its own
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _CLIENTS:
            raise
        raise Unreachable(
            f"The hub at {api.endpoint} does not answer ({error or type(error).__name__}). What has arrived is kept; "
            "check the network and run the command again."
        ) from error


def _refusal(api: HfApi, repository: str, revision: str | None, file: str, error: HfHubHTTPError) -> LimnerError:
    from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RevisionNotFoundError

    status, page = error.response.status_code, f"{api.endpoint}/{repository}"
    if isinstance(error, RevisionNotFoundError):
        return _no_revision(api, repository, revision)
    if isinstance(error, RemoteEntryNotFoundError):
        return NotFound(f"`{repository}` has no file `{file}` any more. Run the command again.", name=file)
    if isinstance(error, GatedRepoError):
        return Refused(
            f"`{repository}` asks for its licence to be accepted. Open {page}, accept it there, then set HF_TOKEN to a "
            "token that may read (from the hub's settings) or run `hf auth login`, and try again.",
            page=page,
        )
    if status in (401, 403) and _has_token():
        return Refused(
            f"The hub does not let this token read `{repository}` (status {status}). Check the name and HF_TOKEN, and "
            f"open {page} to see whether a licence has to be accepted.",
            page=page,
        )
    if status in (401, 403, 404):
        return _no_repository(api, repository, page)
    return Unreachable(f"The hub at {api.endpoint} answers with status {status}. Try again later.")


def _no_repository(api: HfApi, repository: str, page: str) -> NotFound:
    near: list[str] = []
    # Names are a kindness: where the hub does not give any, the message does without.
    with suppress(Exception):
        found = [str(model.id) for model in api.list_models(search=repository.rpartition("/")[2][:60], limit=20)]
        near = difflib.get_close_matches(repository, found, n=3, cutoff=0.4) or found[:3]
    known = f"Near: {some(near)}. " if near else ""
    return NotFound(
        f"The hub has no repository `{repository}`, or it is private. {known}Check the name; for a private one accept "
        f"its licence at {page} and set HF_TOKEN or run `hf auth login`.",
        name=repository,
        near=near,
    )


def _no_revision(api: HfApi, repository: str, revision: str | None) -> NotFound:
    known: list[str] = []
    with suppress(Exception):
        refs = api.list_repo_refs(repository)
        known = [ref.name for ref in (*refs.branches, *refs.tags)]
    listed = f"There are {some(known, 8)}." if known else "Leave --revision out to get the newest."
    return NotFound(f"`{repository}` has no revision `{revision}`. {listed}", name=revision, near=known[:8])


def _has_token() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())
