"""Errors of object stores in one line; those that clients raise have pages."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import responses

import urllib3.exceptions
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from obstore import exceptions as obstore

from raysvq.errors import DataError, SettingsError, StorageError
from raysvq.storage.objects import ChangedError

# obstore has types for missing, forbidden and existing objects. Any other error is a GenericError, whose text
# alone tells an answer of the store from a failure of the network.
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_CAUSE = re.compile(r'message: "([^"]+)"|kind: (TimedOut|Timeout)')
_ROLE_OF_THE_MACHINE = "169.254."  # address of the service for its credentials

_LATER = {
    "RequestTimeout",
    "OperationAborted",
    "SlowDown",
}  # transient, whatever their status
_REFUSED = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId"}
_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect"}
_OTHER_REGION = "the bucket is in another region; set storage.region or AWS_REGION"
_NO_CREDENTIALS = "no credentials in the settings storage.*, in the environment or from the machine's role"
_NETWORK = (
    *(boto.EndpointConnectionError, boto.ConnectTimeoutError),
    *(boto.HTTPClientError, boto.IncompleteReadError, boto.ResponseStreamingError, ResponseParserError),
    urllib3.exceptions.HTTPError,
)


class TransientError(StorageError):
    """A request failed that may succeed the next time."""


@contextmanager
def storage_errors(what: str, passing: tuple[type[OSError], ...] = ()) -> Iterator[None]:
    """Name `what` failed and why; errors of the types `passing` go through as they are.

    Each store's client has exceptions of its own, not all of them OSErrors.

    Raises:
        SettingsError: the store cannot be opened as the settings or the environment say.
        DataError: who asked for a listing does not want to go on with it.
        StorageError: anything else failed.
    """
    through: tuple[type[Exception], ...] = (SettingsError, DataError, *passing)
    try:
        yield
    except through:
        raise
    except Exception as error:  # noqa: BLE001
        raise StorageError(f"{what}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """One line without the file's name."""
    if isinstance(error, FileNotFoundError):
        return "no such file, folder or bucket"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ("permission denied" if text == "Permission denied" else text).splitlines()[0]


@contextmanager
def bucket_errors(uri: str) -> Iterator[None]:
    """Translate what obstore and botocore raise in the block, panics included.

    Raises:
        OSError: FileNotFoundError, FileExistsError, PermissionError or TransientError where it is one.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and error.errno is None:  # obstore's
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri) from None
        raise
    except (obstore.BaseError, ValueError) as error:
        raise _of_obstore(error, uri) from None
    except (boto.BotoCoreError, boto.ClientError, ResponseParserError, urllib3.exceptions.HTTPError) as error:
        raise _of_boto(error, uri) from None
    except BaseException as error:
        if type(error).__module__ == "pyo3_runtime":  # a panic of obstore, whose type cannot be imported
            raise OSError(errno.EIO, f"the S3 client failed: {str(error).splitlines()[0]}", uri) from None
        raise


def _of_obstore(error: Exception, uri: str) -> OSError:
    text = str(error)
    first = text.splitlines()[0]
    status, code = _STATUS.search(text), _CODE.search(text)
    if isinstance(error, ValueError | obstore.InvalidPathError):
        return OSError(errno.EINVAL, first, uri)
    if isinstance(error, obstore.AlreadyExistsError) and not (code and code[1] in _LATER):
        return FileExistsError(errno.EEXIST, "exists already", uri)
    if status is None and _ROLE_OF_THE_MACHINE in first:
        return TransientError(_NO_CREDENTIALS)
    if _ROLE_OF_THE_MACHINE in first:
        return PermissionError(errno.EACCES, _NO_CREDENTIALS, uri)
    if status is not None:
        return _of_answer(int(status[1]), code[1] if code else "", uri)
    if "redirect without LOCATION" in first:
        return OSError(errno.EIO, _OTHER_REGION, uri)
    cause = _CAUSE.search(text)
    reason = re.sub(r"^Generic \w+ error: ", "", first.rpartition(" - ")[2])
    return TransientError(f"{reason} ({cause[1] or 'timed out'})" if cause else reason)


def _of_boto(error: Exception, uri: str) -> OSError:
    if isinstance(error, boto.ClientError):
        answer = error.response
        return _of_answer(answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"].get("Code", ""), uri)
    if isinstance(error, boto.NoCredentialsError):
        return TransientError(_NO_CREDENTIALS)  # the machine's role may be slow to answer
    if isinstance(error, _NETWORK):
        cause = getattr(error, "kwargs", {}).get("error", error)
        return TransientError(str(cause).rpartition(": ")[2].splitlines()[0] or type(error).__name__)
    return OSError(errno.EIO, str(error).splitlines()[0], uri)


def _of_answer(status: int, code: str, uri: str) -> OSError:
    answer = " ".join(filter(None, (str(status), responses.get(status), "" if code == str(status) else code)))
    if status in (401, 403) or code in _REFUSED:
        return PermissionError(errno.EACCES, f"permission denied ({answer})", uri)
    if status == 404:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri)
    if code in _REGION:
        return OSError(errno.EIO, _OTHER_REGION, uri)
    if status == 412:
        return ChangedError("replaced while it was read")
    if status == 409 and code not in _LATER:
        return FileExistsError(errno.EEXIST, "exists already", uri)
    if (status >= 500 and status != 501) or status in (408, 429) or code in _LATER:
        return TransientError(f"the store answered {answer}")
    return OSError(errno.EIO, f"the store answered {answer}", uri)
