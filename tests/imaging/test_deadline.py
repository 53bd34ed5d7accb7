"""A process in which a decoder hangs is ended, whatever the decoder holds."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

_HEAD = """
import ctypes, threading, time
from raysvq.imaging.deadline import Deadline
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
