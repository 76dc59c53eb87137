"""JSON whose last member is a digest of all bytes before it: the manifest of shards, the side-car of an image."""

from __future__ import annotations

import json
from typing import Any

import xxhash

TAIL = ',"xxh3":"{:016x}"}}\n'
TAIL_BYTES = len(TAIL.format(0))


def vouched(content: dict[str, Any]) -> bytes:
    """An object as one line of JSON in ASCII, with the digest."""
    body = json.dumps(content, separators=(",", ":"))[:-1].encode()
    return body + TAIL.format(xxhash.xxh3_64_intdigest(body)).encode()


def is_vouched(data: bytes) -> bool:
    """Whether bytes end in the digest of what is before it."""
    return data[-TAIL_BYTES:] == TAIL.format(xxhash.xxh3_64_intdigest(data[:-TAIL_BYTES])).encode()
