"""What several tests of this folder need."""

import os
from pathlib import Path

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")


needs_posix = pytest.mark.skipif(os.name != "posix", reason="file modes and owners are POSIX")


def open_descriptors(path: Path) -> int:
    links = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    return sum(link.startswith(str(path)) for link in links)
