"""One door to local paths and object stores.

A URI is taken literally: nothing in it is percent-decoded, so `#`, `?`, `%`, spaces and any
unicode may stand in a file name. Local files are named by their absolute path, without a scheme.

`s3://` goes through pyarrow's own client for bytes and through s3fs for listings (which carry the
ETag); every other scheme goes through fsspec. Credentials, endpoint and region come from the
environment of the process that opens the file (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_ENDPOINT_URL`, `AWS_REGION`, or the machine's role): they are never part of a plan or a result.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.fs as pafs

from raysvq.errors import StorageError


@dataclass(frozen=True)
class ObjectInfo:
    """A stored file, as a listing shows it."""

    uri: str
    size_bytes: int
    etag: str | None
    mtime: datetime | None


def canonical(uri: str | Path) -> str:
    """The one spelling of a URI: absolute path for local files, `scheme://…` otherwise."""
    text = str(uri)
    scheme, path = _split(text)
    if scheme != "file":
        return f"{scheme}://{path.rstrip('/')}"
    return os.path.abspath(os.path.expanduser(path))


def join(base: str, *parts: str) -> str:
    """Append path parts to a URI."""
    return "/".join([base.rstrip("/"), *parts])


def image_id(uri: str) -> str:
    """128-bit hash of a canonical URI, 32 hexadecimal digits."""
    return hashlib.blake2b(uri.encode(), digest_size=16).hexdigest()


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The Arrow filesystem behind a URI and the path inside it.

    Raises:
        StorageError: no client is installed for the scheme.
    """
    scheme, path = _split(uri)
    return _arrow_filesystem(scheme), path


def read_bytes(uri: str) -> bytes:
    """The whole content of a file. Raises OSError as the filesystem does, for impossible paths as well."""
    fs, path = filesystem(uri)
    try:
        # One request to an object store; a stream would ask for every 256 KiB.
        with fs.open_input_file(path) as file:
            content: bytes = file.read()
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001
        raise OSError(_reason(error)) from None
    return content


def write_bytes(uri: str, content: bytes) -> None:
    """Write a file so that readers see all of it or nothing.

    Raises:
        StorageError: the place may not be written.
    """
    fs, path = filesystem(uri)
    with _storage_errors(f"cannot write {uri}"):
        if isinstance(fs, pafs.LocalFileSystem):
            with _replacing(Path(path)) as partial:
                partial.write_bytes(content)
        else:
            with fs.open_output_stream(path) as stream:
                stream.write(content)


def create_file(uri: str, content: bytes) -> bool:
    """Create a file that must not exist yet; of several processes one succeeds.

    Returns:
        Whether this call created it.

    Raises:
        StorageError: the place may not be written.
    """
    scheme, path = _split(uri)
    try:
        with _storage_errors(f"cannot write {uri}", passing=FileExistsError):
            if scheme == "file":
                with _partial(Path(path)) as partial:
                    partial.write_bytes(content)
                    _flush(partial)
                    os.link(partial, path)
            else:
                _fsspec_filesystem(scheme).pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    return True


def remove_file(uri: str) -> None:
    """Remove a file; one that is gone already is no error.

    Raises:
        StorageError: it may not be removed.
    """
    fs, path = filesystem(uri)
    with (
        suppress(FileNotFoundError),
        _storage_errors(f"cannot remove {uri}", passing=FileNotFoundError),
    ):
        fs.delete_file(path)


def put_file(local: Path, uri: str) -> None:
    """Copy a local file, of any size, to a URI; readers see all of it or nothing.

    Raises:
        StorageError: the place may not be written.
    """
    fs, path = filesystem(uri)
    with _storage_errors(f"cannot write {uri}"):
        if isinstance(fs, pafs.LocalFileSystem):
            with _replacing(Path(path)) as partial:
                shutil.copyfile(local, partial)
        else:
            pafs.copy_files(str(local), path, pafs.LocalFileSystem(), fs)


def file_infos(uris: list[str]) -> list[ObjectInfo | None]:
    """Size and time of each file, None where there is no such file.

    Raises:
        StorageError: the store cannot be asked.
    """
    infos: dict[str, ObjectInfo] = {}
    for scheme in {_split(uri)[0] for uri in uris}:
        paths = {_split(uri)[1]: uri for uri in uris if _split(uri)[0] == scheme}
        fs = _arrow_filesystem(scheme)
        with _storage_errors(f"cannot read {next(iter(paths.values()))}"):
            found = _infos(fs, list(paths))
        for info in found:
            if info.type == pafs.FileType.File:
                uri = paths[info.path]
                infos[uri] = ObjectInfo(uri, info.size, None, info.mtime)
    return [infos.get(uri) for uri in uris]


def list_objects(prefix: str) -> Iterator[ObjectInfo]:
    """Every file at or below a prefix, sorted within each folder, one folder in memory at a time.

    Raises:
        StorageError: the prefix or bucket does not exist or may not be listed.
    """
    scheme, path = _split(prefix)
    fs = _fsspec_filesystem(scheme)
    with _storage_errors(f"cannot read {prefix}"):
        info = fs.info(path)
    if info["type"] == "file":
        yield _object_info(scheme, info)
        return
    yield from _walk(fs, scheme, path, prefix)


def is_folder(uri: str) -> bool:
    """Whether a URI names a folder or prefix rather than a file.

    Raises:
        StorageError: nothing is there, or the place may not be read.
    """
    fs, path = filesystem(uri)
    with _storage_errors(f"cannot read {uri}"):
        kind = fs.get_file_info(path).type
    if kind == pafs.FileType.NotFound:
        raise StorageError(f"cannot read {uri}: no such file, folder or bucket")
    return bool(kind == pafs.FileType.Directory)


def exists(uri: str) -> bool:
    """Whether a file or folder is there.

    Raises:
        StorageError: the place may not be read.
    """
    fs, path = filesystem(uri)
    with _storage_errors(f"cannot read {uri}"):
        return bool(fs.get_file_info(path).type != pafs.FileType.NotFound)


def remove_folder(uri: str) -> None:
    """Remove a folder and what is in it.

    Raises:
        StorageError: it does not exist or may not be removed.
    """
    fs, path = filesystem(uri)
    with _storage_errors(f"cannot remove {uri}"):
        fs.delete_dir(path)


def require_writable(folder: str) -> None:
    """Write and remove a probe file, so that a run without permission ends before it begins.

    Raises:
        StorageError: the folder may not be written.
    """
    probe = join(folder, f".probe-{uuid.uuid4().hex}")
    write_bytes(probe, b"")
    remove_file(probe)


def _split(uri: str) -> tuple[str, str]:
    scheme, separator, path = uri.partition("://")
    if not separator:
        return "file", uri
    return scheme.lower(), path


@lru_cache(maxsize=16)
def _arrow_filesystem(scheme: str) -> pafs.FileSystem:
    if scheme == "file":
        return pafs.LocalFileSystem()
    if scheme == "s3":
        return pafs.S3FileSystem(
            endpoint_override=_s3_endpoint(),
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            connect_timeout=10,
            request_timeout=60,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=5),
        )
    return pafs.PyFileSystem(pafs.FSSpecHandler(_fsspec_filesystem(scheme)))


@lru_cache(maxsize=16)
def _fsspec_filesystem(scheme: str) -> Any:
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":
        options["client_kwargs"] = {"endpoint_url": _s3_endpoint()}
    try:
        return fsspec.filesystem(scheme, **options)
    except (ImportError, ValueError) as error:
        raise StorageError(f"no storage client for {scheme}://: {error}") from None


def _s3_endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _walk(fs: Any, scheme: str, path: str, prefix: str) -> Iterator[ObjectInfo]:
    with _storage_errors(f"cannot list {prefix}"):
        entries = sorted(fs.ls(path, detail=True), key=lambda entry: str(entry["name"]))
    for entry in entries:
        if entry["type"] == "directory":
            if entry["name"].rstrip("/") == path.rstrip("/"):
                raise StorageError(f"cannot list {prefix}: {scheme}://{path}// is a folder without a name")
            yield from _walk(fs, scheme, entry["name"], prefix)
        elif not entry["name"].endswith("/"):  # a folder marker of an object store
            yield _object_info(scheme, entry)


def _object_info(scheme: str, entry: dict[str, Any]) -> ObjectInfo:
    name = entry["name"]
    modified = entry.get("LastModified") or entry.get("mtime")
    if isinstance(modified, int | float):
        modified = datetime.fromtimestamp(modified, UTC)
    etag = entry.get("ETag")
    return ObjectInfo(
        uri=name if scheme == "file" else f"{scheme}://{name}",
        size_bytes=int(entry["size"]),
        etag=etag.strip('"') if etag else None,
        mtime=modified,
    )


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A file beside `path` to fill, on disk when the block ends; what is left of it then goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:200]}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to fill, which then takes its place at once."""
    with _partial(path) as partial:
        yield partial
        _flush(partial)
        partial.replace(path)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _infos(fs: pafs.FileSystem, paths: list[str]) -> list[pafs.FileInfo]:
    """What is known of each path; those that no file can have are left out."""
    try:
        found: list[pafs.FileInfo] = fs.get_file_info(paths)
    except ValueError:  # one impossible path fails them all
        half = len(paths) // 2
        return _infos(fs, paths[:half]) + _infos(fs, paths[half:]) if half else []
    return found


@contextmanager
def _storage_errors(what: str, passing: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Name `what` failed and why; errors of the type `passing` go through as they are.

    Each store's client has exceptions of its own, not all of them OSErrors.
    """
    try:
        yield
    except passing:
        raise
    except Exception as error:  # noqa: BLE001
        raise StorageError(f"{what}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, FileNotFoundError):
        return "no such file, folder or bucket"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
