"""The segments of visitd that nobody uses: what a test that did not clean up leaves on the machine."""

import ctypes
import struct
import time
from pathlib import Path

MAGICS = {b"VSTDRING": "ring", b"VSTDACHE": "cache"}
SHM_RDONLY = 0o10000
DIRECTORY_AT, DIRECTORY_BYTES = 2048, 2048  # common/shm/ring_layout.hpp
# Tests of another tree, on the same machine, may have some for a moment.
PATIENCE_S = 10.0

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.shmat.restype = ctypes.c_void_p
_LIBC.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
_LIBC.shmdt.argtypes = [ctypes.c_void_p]


def unused_segments() -> dict[int, str]:
    """Those that no process has attached: id, and what is known of it. Of those that this user may look into."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    names = lines[0].split()
    found = {}
    for line in lines[1:]:
        segment = dict(zip(names, map(int, line.split())))
        if segment["nattch"] == 0 and (text := _described(segment)):
            found[segment["shmid"]] = text
    return found


def left_since(before: dict[int, str]) -> list[str]:
    """A line for each that is there and was not there before, once there is none, or has not gone for a while."""
    deadline = time.monotonic() + PATIENCE_S
    while (left := unused_segments().items() - before.items()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return [text for _, text in sorted(left)]


def _described(segment: dict[str, int]) -> str:
    """Empty: it is not visitd's."""
    address = _LIBC.shmat(segment["shmid"], None, SHM_RDONLY)
    if address in (None, ctypes.c_void_p(-1).value):
        return ""
    try:
        beginning = ctypes.string_at(address, min(segment["size"], DIRECTORY_AT + DIRECTORY_BYTES))
    finally:
        _LIBC.shmdt(address)
    what = MAGICS.get(beginning[:8])
    if what is None:
        return ""
    text = f"segment {segment['shmid']}: a {what} of {segment['size']} bytes, made by process {segment['cpid']}"
    directory = beginning[DIRECTORY_AT:].partition(b"\0")[0] if what == "ring" else b""
    layout = struct.unpack_from("Q", beginning, 8)[0]
    return f"{text}, layout {layout}" + (f", of {directory.decode(errors='replace')}" if directory else "")
