"""Stores behind a URL, opened through fsspec so that no listing is outdated, throttled requests are repeated, and no bucket is made."""

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
    """Return the store behind a URL and the path in it.

    Raises ConfigError for a URL that no store serves, EnvironmentProblem where the store's client is not installed.
    """
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
            raise ConfigError(f"nothing serves {shown} ({one_line(error)}). Use a folder, s3://, gs://, az:// or the like") from error
    _forget_listings(store)
    return store, root


def protocols(url: str) -> set[str]:
    """Return the names before each "://" of a URL such as simplecache::s3://bucket/results."""
    return {part.partition("://")[0] for part in url.split("::")}


def _settings(url: str) -> dict[str, Any]:
    """Return the settings of S3's client. A user's own configuration wins (fsspec's configuration, AWS_MAX_ATTEMPTS, AWS_RETRY_MODE)."""
    ours: dict[str, Any] = {"max_pool_connections": PARALLEL}
    if not {"AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"} & os.environ.keys():
        ours["retries"] = {"mode": "standard", "total_max_attempts": TRIES}
    return {name: {"config_kwargs": ours | fsspec.config.conf.get(name, {}).get("config_kwargs", {})} for name in protocols(url) & S3}


def _forget_listings(store: Any) -> None:
    """Turn off the store's cache of listings, which would never show what another process writes.

    It is set on the finished store, since not every store takes `use_listings_cache` as an argument. A store may be wrapped in another.
    """
    while store is not None:
        if isinstance(cache := getattr(store, "dircache", None), DirCache):
            cache.use_listings_cache = False
            cache.clear()
        store = vars(store).get("fs")


def read(store: Any, path: str) -> bytes:
    """Return a file's bytes by a single request.

    s3fs asks for the size first, to fetch files beyond 50 MB in parallel parts; the files here are small and many.
    """
    data: bytes = store.cat_file(path, **({"max_concurrency": 1} if _is_s3(store) else {}))
    return data


def create(store: Any, path: str, data: bytes) -> bool:
    """Write a file that does not exist yet; return False where it does. It is one request, so one of two writers succeeds (S3, GCS)."""
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
    """Write a file that still holds `known`; return False where it holds something else. On S3 no other write can come between
    (If-Match)."""
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
    """Return a text, made from an entry of a listing, that changes whenever the file's contents do."""
    stamps = [info.get(k) for k in ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "created", "size")]
    return " ".join(str(s) for s in stamps if s is not None)


def _is_s3(store: Any) -> bool:
    own = store.protocol if isinstance(store.protocol, tuple) else (store.protocol,)
    return bool(S3.intersection(own))


def _is_taken(error: BaseException) -> bool:
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return isinstance(error, FileExistsError) or str(code) in TAKEN
