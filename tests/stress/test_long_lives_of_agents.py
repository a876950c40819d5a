"""Many lives of agents that Hypothesis thinks of; see `tests/agents/machine.py`."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent.parent / "agents"))

from machine import AgentLives


class TestAgentLives(AgentLives.TestCase):
    settings = settings(
        deadline=None, max_examples=1000, stateful_step_count=40, suppress_health_check=list(HealthCheck)
    )
