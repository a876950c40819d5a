"""Any life of an agent that Hypothesis thinks of."""

from hypothesis import HealthCheck, settings
from machine import AgentLives


class TestAgentLives(AgentLives.TestCase):  # A class of its own: the longer run has other settings.
    settings = settings(
        deadline=None,
        derandomize=True,
        max_examples=20,
        stateful_step_count=20,
        suppress_health_check=list(HealthCheck),
    )
