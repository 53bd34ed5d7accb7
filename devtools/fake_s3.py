"""An S3 server in memory that takes every key of S3, and imitates differences between real stores.

The real server of `devtools.s3_server` keeps its keys as paths, so it has none with `//` or `..`.
Signatures are not checked.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape, unescape

BUCKET = "fake"


@dataclass
class Stored:
    """An object."""

    content: bytes
    etag: str
    modified: float


@dataclass
class FakeS3:
    """What the server holds and how it behaves."""

    objects: dict[str, Stored] = field(default_factory=dict)
    page_size: int = 1000
    ignores_if_match: bool = False
    ignores_if_none_match: bool = False
    refuses_if_none_match: bool = False  # with 501, as stores do that do not know it
    repeats_pages: bool = False  # hands out the same token for ever
    forbidden: set[str] = field(default_factory=set)  # prefixes that may not be listed
    etags: bool = True  # whether answers to GET and HEAD carry one
    requests: list[str] = field(default_factory=list)  # method, target and range of each
    tokens: list[str | None] = field(default_factory=list)  # of temporary keys, of each request
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    endpoint: str = ""

    def put(self, key: str, content: bytes, etag: str | None = None) -> str:
        """Store an object; returns its ETag."""
        etag = etag or f'"{hashlib.md5(content).hexdigest()}"'
        self.objects[key] = Stored(content, etag, time.time())
        return etag

    @property
    def environment(self) -> dict[str, str]:
        """Variables that open it."""
        keys = {"AWS_ACCESS_KEY_ID": "fake-key", "AWS_SECRET_ACCESS_KEY": "fake-secret"}
        return keys | {"AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": "us-east-1"}

    @property
    def google_environment(self) -> dict[str, str]:
        """Variables that open it as Google's, whose XML interface differs from S3's in headers alone."""
        account = {"gcs_base_url": self.endpoint, "disable_oauth": True}
        account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account)}


@contextmanager
def fake_s3(certificate: Path | None = None) -> Iterator[FakeS3]:
    """Run one on 127.0.0.1 that holds the empty bucket BUCKET, until the block ends.

    Args:
        certificate: PEM file with a certificate of 127.0.0.1 and its key, to answer over TLS.
    """
    store = FakeS3()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": store}))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    store.endpoint = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients may break off."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer is written in two pieces
    store: FakeS3

    def handle_one(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.store.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        self.store.tokens.append(self.headers.get("x-amz-security-token"))
        path, _, query = self.path.partition("?")
        self.query = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
        bucket, _, key = path.removeprefix("/").partition("/")
        if bucket != BUCKET:
            return self.fail(404, "NoSuchBucket")
        self.key = unquote(key)
        if "delete" in self.query:
            names = re.findall(r"<Key>.*?</Key>", self.body.decode(), re.DOTALL)
            for name in names:
                self.store.objects.pop(unescape(name[5:-6]), None)
            gone = "".join(f"<Deleted>{name}</Deleted>" for name in names)
            return self.send(200, f"<DeleteResult>{gone}</DeleteResult>".encode())
        if not self.key:
            return self.list()
        return getattr(self, self.command.lower())()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_one

    def list(self) -> None:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter")
        if prefix.startswith(tuple(self.store.forbidden)):
            return self.fail(403, "AccessDenied")
        after = self.query.get("continuation-token") or self.query.get("start-after", "")
        most = min(self.store.page_size, int(self.query.get("max-keys", 1000)))
        keys = sorted(key for key in list(self.store.objects) if key.startswith(prefix))
        files: list[str] = []
        folders: list[str] = []
        last = more = ""
        after = "" if self.store.repeats_pages else after
        for key in keys:
            head, found, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else ("", "", "")
            name = f"{prefix}{head}{found}" if found else key
            if name <= after or name in folders:
                continue
            if len(files) + len(folders) == most:
                more = last
                break
            (folders if found else files).append(name)
            last = name
        code = quote if self.query.get("encoding-type") == "url" else escape
        more = "again" if self.store.repeats_pages else more
        parts = [f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>"]
        parts += [f"<NextContinuationToken>{escape(more)}</NextContinuationToken>"] if more else []
        parts += ["<EncodingType>url</EncodingType>"] if code is quote else []
        for key in files:
            stored = self.store.objects[key]
            moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stored.modified))
            moment += f".{int(stored.modified * 1000) % 1000:03d}Z"
            parts.append(
                f"<Contents><Key>{code(key)}</Key><Size>{len(stored.content)}</Size>"
                f"<LastModified>{moment}</LastModified><ETag>{escape(stored.etag)}</ETag></Contents>"
            )
        parts += [f"<CommonPrefixes><Prefix>{code(name)}</Prefix></CommonPrefixes>" for name in folders]
        self.send(200, f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode())

    def get(self) -> None:
        stored = self.store.objects.get(self.key)
        if stored is None:
            return self.fail(404, "NoSuchKey")
        wanted = self.headers.get("If-Match")
        if wanted and not self.store.ignores_if_match and wanted not in (stored.etag, "*"):
            return self.fail(412, "PreconditionFailed")
        headers = {"Last-Modified": formatdate(stored.modified, usegmt=True)}
        headers |= {"ETag": stored.etag} if self.store.etags else {}
        content, status = stored.content, 200
        if spec := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start = int(spec[1])
            content = content[start : int(spec[2]) + 1 if spec[2] else None]
            status = 206
            headers["Content-Range"] = f"bytes {start}-{start + len(content) - 1}/{len(stored.content)}"
        return self.send(status, content, headers)

    head = get

    def put(self) -> None:
        if "partNumber" in self.query:
            self.store.uploads[self.query["uploadId"]][int(self.query["partNumber"])] = self.body
            return self.send(200, b"", {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'})
        if self.headers.get("If-None-Match") == "*" or self.headers.get("x-goog-if-generation-match") == "0":
            if self.store.refuses_if_none_match:
                return self.fail(501, "NotImplemented")
            if self.key in self.store.objects and not self.store.ignores_if_none_match:
                return self.fail(412, "PreconditionFailed")
        return self.send(200, b"", {"ETag": self.store.put(self.key, self.body)})

    def post(self) -> None:
        if "uploads" in self.query:
            name = f"upload-{len(self.store.uploads)}"
            self.store.uploads[name] = {}
            text = f"<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{escape(self.key)}</Key>"
            return self.send(
                200, f"{text}<UploadId>{name}</UploadId></InitiateMultipartUploadResult>".encode()
            )
        parts = self.store.uploads.pop(self.query["uploadId"], None)
        if parts is None:
            return self.fail(404, "NoSuchUpload")
        content = b"".join(parts[number] for number in sorted(parts))
        etag = self.store.put(self.key, content, f'"{hashlib.md5(content).hexdigest()}-{len(parts)}"')
        text = f"<CompleteMultipartUploadResult><ETag>{escape(etag)}</ETag></CompleteMultipartUploadResult>"
        return self.send(200, text.encode())

    def delete(self) -> None:
        if "uploadId" in self.query:
            self.store.uploads.pop(self.query["uploadId"], None)
        else:
            self.store.objects.pop(self.key, None)
        self.send(204, b"")

    def fail(self, status: int, code: str) -> None:
        self.send(status, f"<Error><Code>{code}</Code><Message>by design</Message></Error>".encode())

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(OSError):  # the client did not wait
                self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return
