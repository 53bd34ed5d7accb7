"""Images that crash or hang the decoder: a deadline ends their process, a sandbox finds them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
import psutil
import pytest

from raysvq.imaging.decode import DecodeError
from raysvq.imaging.sandbox import Sandbox, decode
from raysvq.settings import Settings

PNG = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))[1].tobytes()

TIMEOUT_S = 60.0


def _decode(content: bytes) -> Iterator[None]:
    """Does what the image says."""
    match content:
        case b"corrupt":
            raise DecodeError("corrupt", "as it says")
        case b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"hang":
            time.sleep(1000)
        case b"poison":
            threading.Timer(0.2, os._exit, [1]).start()
        case b"slow":
            time.sleep(1)
        case b"hang with the lock":
            ctypes.PyDLL(None).sleep(1000)
        case b"long":
            for _ in range(8):
                time.sleep(0.1)
                yield
    yield


@pytest.fixture(autouse=True)
def _no_child_is_left_behind() -> Iterator[None]:
    before = psutil.Process().children()  # such as a store's, of other tests
    yield
    assert [child for child in psutil.Process().children() if child not in before] == []


def _outcome(sandbox: Sandbox, content: bytes) -> str:
    try:
        sandbox.require_decodable(content)
    except DecodeError as error:
        return error.reason
    return "fine"


def test_images_are_decoded_as_the_job_decodes_them(small: Callable[..., Settings]) -> None:
    settings = small()
    with Sandbox(partial(decode, tiles=settings.tiles, scoring=settings.scoring), TIMEOUT_S) as sandbox:
        outcomes = [_outcome(sandbox, content) for content in (PNG, PNG[:-20], b"", b"text", PNG)]
    assert outcomes == ["fine", "corrupt", "empty", "not_an_image", "fine"]


def test_the_decoder_s_own_words_come_through() -> None:
    with Sandbox(_decode, TIMEOUT_S) as sandbox, pytest.raises(DecodeError, match="corrupt: as it says"):
        sandbox.require_decodable(b"corrupt")


def test_a_crash_is_the_image_s_own_and_the_next_one_has_a_fresh_process() -> None:
    with Sandbox(_decode, TIMEOUT_S) as sandbox:
        contents = [b"crash", b"fine", b"crash", b"corrupt", b"fine"]
        outcomes = [_outcome(sandbox, content) for content in contents]
    assert outcomes == ["crashed", "fine", "crashed", "corrupt", "fine"]


@pytest.mark.parametrize("content", [b"hang", b"hang with the lock"])
def test_a_decoder_that_hangs_is_ended_and_the_next_image_has_a_fresh_process(content: bytes) -> None:
    with Sandbox(_decode, timeout_s=0.3) as sandbox:
        for _ in range(2):
            with pytest.raises(DecodeError, match=r"crashed: decoding took more than 0\.3 s"):
                sandbox.require_decodable(content)
        sandbox.require_decodable(b"fine")


def test_an_image_that_goes_on_may_take_longer_than_the_limit() -> None:
    with Sandbox(_decode, timeout_s=0.6) as sandbox:
        sandbox.require_decodable(b"long")


def _says_what_is_loaded(content: bytes) -> Iterator[None]:
    raise DecodeError("corrupt", f"loaded {sorted({'cv2', 'pyarrow', 'ray', 'torch'} & sys.modules.keys())}")
    yield


def test_its_process_loads_decoders_and_neither_ray_nor_torch_nor_arrow() -> None:
    with (
        Sandbox(_says_what_is_loaded, TIMEOUT_S) as sandbox,
        pytest.raises(DecodeError, match=r"loaded \['cv2'\]"),
    ):
        sandbox.require_decodable(b"")


def test_an_image_does_not_answer_for_the_one_before() -> None:
    with Sandbox(_decode, TIMEOUT_S) as sandbox:
        assert [_outcome(sandbox, content) for content in (b"poison", b"slow")] == ["fine", "fine"]


_HEAD = """
import ctypes, threading, time
from raysvq.imaging.sandbox import Deadline
hang = ctypes.PyDLL(None).sleep  # holds the interpreter's lock
deadline = Deadline(0.4)
"""
HANGS = {
    "holds the lock": "with deadline: hang(1000)",
    "sleeps": "with deadline: time.sleep(1000)",
    "in a thread": """
def work():
    with deadline: time.sleep(1000)
threading.Thread(target=work).start()
""",
    "after others": """
for _ in range(5):
    with deadline: time.sleep(0.1)
with deadline: hang(1000)
""",
    "beside others": """
def work(seconds, times):
    for _ in range(times):
        with deadline: time.sleep(seconds)
for seconds, times in ((0.1, 8), (1000, 1)):
    threading.Thread(target=work, args=(seconds, times)).start()
""",
}
GOES_ON = {
    "in short pieces": "for _ in range(8):\n    with deadline: time.sleep(0.1)",
    "between pieces": "with deadline: pass\ntime.sleep(1)",
    "in threads": """
def work():
    for _ in range(4):
        with deadline: time.sleep(0.2)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
time.sleep(0.6)
""",
}


def _run(code: str) -> tuple[int, str, float]:
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", _HEAD + code], capture_output=True, text=True, timeout=60, check=False
    )
    return ended.returncode, ended.stderr, time.monotonic() - started


@pytest.mark.parametrize("name", HANGS)
def test_a_hanging_decoder_ends_its_process_and_says_where(name: str) -> None:
    code, said, seconds = _run(HANGS[name])
    assert code == -signal.SIGALRM
    assert "most recent call first" in said
    assert seconds < 30


@pytest.mark.parametrize("name", GOES_ON)
def test_decoding_that_goes_on_is_left_alone(name: str) -> None:
    assert _run(GOES_ON[name])[:2] == (0, "")
