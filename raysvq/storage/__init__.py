"""Local paths and object stores behind one interface.

A URI is taken literally: nothing in it is percent-decoded, so `#`, `?`, `%`, spaces and any
unicode may stand in a file name. Local files are named by their absolute path, without a scheme.

`s3://`, `gs://` and `az://` (`abfs://`) go through obstore, which sends one request per file and takes far
less CPU than pyarrow or s3fs (`python -m benchmarks.storage`). On S3, botocore does what obstore cannot: it
lists keys that are no paths (obstore takes `/a` for `a`, and ends a listing at `a//b`), repeats single parts
of an upload, and reads profiles of `~/.aws`, with single sign-on and assumed roles. Transient errors are
retried per request, see `raysvq.storage.retry`.

Arrow's own S3 client reads and writes what Arrow and Ray stream: Parquet files and checkpoints. It knows no
profile that assumes a role, so under AWS_PROFILE s3fs streams; from Google and Azure obstore's fsspec client
does. Every other scheme goes through its fsspec client alone.

Credentials, endpoint and region come from `Settings.storage`, applied by `configure`, else from the
environment of the process that opens the file (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_ENDPOINT_URL`, `AWS_REGION`, or the machine's role). No result holds them.
"""

from raysvq.storage.clients import configure, filesystem, forget_clients, patiently
from raysvq.storage.files import (
    create_file,
    exists,
    fetch_file,
    file_infos,
    is_folder,
    list_folder,
    list_objects,
    put_file,
    read_bytes,
    read_version,
    remove_file,
    remove_folder,
    require_put_if_absent,
    require_writable,
    write_bytes,
)
from raysvq.storage.objects import ChangedError, ObjectInfo, canonical, image_id, join

__all__ = [
    "ChangedError",
    "ObjectInfo",
    "canonical",
    "configure",
    "create_file",
    "exists",
    "fetch_file",
    "file_infos",
    "filesystem",
    "forget_clients",
    "image_id",
    "is_folder",
    "join",
    "list_folder",
    "list_objects",
    "patiently",
    "put_file",
    "read_bytes",
    "read_version",
    "remove_file",
    "remove_folder",
    "require_put_if_absent",
    "require_writable",
    "write_bytes",
]
