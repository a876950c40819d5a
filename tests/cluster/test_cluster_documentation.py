"""The page and the example of clusters do what they say."""

import os
import subprocess
import sys

import pytest

from nodes import Cluster
from strands_sqlite_session_manager import SessionCatalog
from test_documentation import EXAMPLES, ROOT, code_blocks, run_blocks

PAGE = ROOT / "docs" / "cluster.md"


def test_blocks_of_the_page_run(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    documented = "rqlite://app:secret@db1:4001,db2:4001,db3:4001"
    assert any(documented in block for block in code_blocks(PAGE, "python"))
    run_blocks(PAGE, monkeypatch, lambda block: block.replace(documented, cluster.url))
    with SessionCatalog(cluster.url) as catalog:
        assert catalog.history("user-42", "default")


def test_example_runs(cluster: Cluster) -> None:
    environment = {**os.environ, "STRANDS_SQLITE_DB_PATH": cluster.url, "PYTHONIOENCODING": "utf-8"}
    environment.pop("STRANDS_EXAMPLE_MODEL", None)
    for _ in range(2):  # What the first run has left is no hindrance.
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", EXAMPLES / "06_cluster.py"],
            capture_output=True,
            encoding="utf-8",
            env=environment,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "ResourceWarning" not in done.stderr
        assert done.stdout.count("✓") == 4
