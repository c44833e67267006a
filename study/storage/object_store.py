"""What lies behind a URL, through fsspec: opened so that it hides nothing, keeps trying while it is throttled, and makes no bucket."""

import os
from contextlib import suppress
from typing import Any

import fsspec
from fsspec.dircache import DirCache

from study.console.text import redact
from study.errors import ConfigError, EnvironmentProblem
from study.storage.refusals import explained_store, one_line

PARALLEL = 32  # requests under way at a time
TRIES = 6  # of a request that a store throttles (503) or fails (5xx), up to 20 s apart
BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}  # have no folders: asked for one, they make a bucket of the misspelt name
S3 = {"s3", "s3a"}
TAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}  # an answer of S3 to a conditional put


def open_store(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The store behind a URL and the path in it. Raises ConfigError for a URL nobody serves, EnvironmentProblem where its client is missing."""
    shown = redact(url)
    with explained_store(url, reading=True):
        try:
            store, root = fsspec.core.url_to_fs(url, **_settings(url))
        except ImportError as error:
            extra = next(
                (f"finetune-study[{name}]" for name, kinds in (("s3", S3), ("gcs", {"gs", "gcs"})) if protocols(url) & kinds), None
            )
            way_out = f"`pip install {extra}`" if extra else "install it"
            raise EnvironmentProblem(
                f"{shown} needs a package that is not installed here ({one_line(error)}); {way_out} on every machine of the study"
            ) from error
        except ValueError as error:
            raise ConfigError(f"nothing serves {shown} ({one_line(error)}); use a folder, s3://, gs://, az:// or the like") from error
    _forget_listings(store)
    return store, root


def protocols(url: str) -> set[str]:
    """Of a URL such as simplecache::s3://bucket/results, the names before each "://"."""
    return {part.partition("://")[0] for part in url.split("::")}


def _settings(url: str) -> dict[str, Any]:
    """For S3's client; what a user has configured wins (fsspec's configuration, AWS_MAX_ATTEMPTS, AWS_RETRY_MODE)."""
    ours: dict[str, Any] = {"max_pool_connections": PARALLEL}
    if not {"AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"} & os.environ.keys():
        ours["retries"] = {"mode": "standard", "total_max_attempts": TRIES}
    return {name: {"config_kwargs": ours | fsspec.config.conf.get(name, {}).get("config_kwargs", {})} for name in protocols(url) & S3}


def _forget_listings(store: Any) -> None:
    """Stores list a folder once and believe it for ever, so what another process writes would never be seen.

    Set on what was made, since not every store takes `use_listings_cache` as an argument; a store may be wrapped in another.
    """
    while store is not None:
        if isinstance(cache := getattr(store, "dircache", None), DirCache):
            cache.use_listings_cache = False
            cache.clear()
        store = vars(store).get("fs")


def read(store: Any, path: str) -> bytes:
    """In one request. s3fs asks for the size first, to fetch what is beyond 50 MB in parts side by side; ours is small, and many."""
    data: bytes = store.cat_file(path, **({"max_concurrency": 1} if _is_s3(store) else {}))
    return data


def create(store: Any, path: str, data: bytes) -> bool:
    """Writes a file that is not there yet; False where it is. One request, so that of two who try at once one succeeds (S3, GCS)."""
    try:
        try:
            store.pipe_file(path, data, mode="create")
        except (TypeError, NotImplementedError):  # a client that knows no such thing: as good as it gets
            if store.exists(path):
                return False
            store.pipe_file(path, data)
    except Exception as error:
        if _is_taken(error):
            return False
        raise
    return True


def replace(store: Any, path: str, data: bytes, known: bytes) -> bool:
    """Writes a file that still holds `known`; False where it holds something else. On S3 nobody can come between (If-Match)."""
    with suppress(FileNotFoundError):
        tag = store.info(path).get("ETag") if _is_s3(store) else None
        if read(store, path) != known:
            return False
        try:
            store.pipe_file(path, data, **({"IfMatch": tag} if tag else {}))
        except Exception as error:
            if _is_taken(error):
                return False
            raise
        return True
    return False


def mark(info: dict[str, Any]) -> str:
    """Of a listing's entry: what changes whenever the contents do."""
    stamps = [info.get(k) for k in ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "created", "size")]
    return " ".join(str(s) for s in stamps if s is not None)


def _is_s3(store: Any) -> bool:
    own = store.protocol if isinstance(store.protocol, tuple) else (store.protocol,)
    return bool(S3.intersection(own))


def _is_taken(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return isinstance(error, FileExistsError) or str(code) in TAKEN
