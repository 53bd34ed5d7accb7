"""One door to local paths and object stores.

A URI is taken literally: nothing in it is percent-decoded, so `#`, `?`, `%`, spaces and any
unicode may stand in a file name. Local files are named by their absolute path, without a scheme.

`s3://` goes through obstore, which asks once for a file where others ask twice: of pyarrow, s3fs and
obstore it takes the least CPU by far (`python -m benchmarks.storage`); listings, uploads in parts and keys
that obstore has no name for go through botocore. Whatever is transient is tried again, request by request,
see `raysvq.storage.retry`. Arrow's own S3 client reads and writes what Arrow and Ray stream:
Parquet files and checkpoints. Every other scheme goes through its fsspec client, and so does S3 (s3fs)
where `AWS_PROFILE` names a profile, which obstore does not read.

Credentials, endpoint and region come from `Settings.storage`, applied by `configure`, else from the
environment of the process that opens the file (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_ENDPOINT_URL`, `AWS_REGION`, or the machine's role). No result holds them.
"""

from raysvq.storage.clients import configure, filesystem, forget_clients, patiently
from raysvq.storage.files import (
    create_file,
    put_file,
    read_bytes,
    read_version,
    remove_file,
    remove_folder,
    require_put_if_absent,
    require_writable,
    write_bytes,
)
from raysvq.storage.listing import exists, file_infos, is_folder, list_objects
from raysvq.storage.names import canonical, image_id, join
from raysvq.storage.versions import ChangedError, ObjectInfo

__all__ = [
    "ChangedError",
    "ObjectInfo",
    "canonical",
    "configure",
    "create_file",
    "exists",
    "file_infos",
    "filesystem",
    "forget_clients",
    "image_id",
    "is_folder",
    "join",
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
