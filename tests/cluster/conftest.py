"""Every test here is about clusters."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and item.module.__name__ != "test_cluster_urls":
            item.add_marker(pytest.mark.cluster)
