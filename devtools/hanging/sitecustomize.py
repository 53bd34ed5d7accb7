"""With this folder on PYTHONPATH, the JPEG decoder of every Python process hangs on files that ask for it,
or waits until a file is there.

For tests and benchmarks: a decoder that hangs cannot be had otherwise, in workers and their children.
"""

import ctypes
import os
import time

import simplejpeg

# As in devtools.hanging_images, which is not on the path here.
SLEEPS = b"raysvq: hang"
HOLDS = b"raysvq: hang, and hold the interpreter's lock"
UNTIL, END = b"raysvq: until there is ", b"\n"
_decode_jpeg = simplejpeg.decode_jpeg


def _decode_or_hang(data, *arguments, **named):
    if UNTIL in data:
        awaited = bytes(data).partition(UNTIL)[2].partition(END)[0]
        while not os.path.exists(awaited):
            time.sleep(0.02)
    if HOLDS in data:
        ctypes.PyDLL(None).sleep(10**6)
    if SLEEPS in data:
        time.sleep(10**6)
    return _decode_jpeg(data, *arguments, **named)


simplejpeg.decode_jpeg = _decode_or_hang
