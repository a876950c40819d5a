"""Any life of an agent that Hypothesis thinks of."""

from hypothesis import HealthCheck, settings
from machine import AgentLives

TestAgentLives = AgentLives.TestCase
TestAgentLives.settings = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    stateful_step_count=20,
    suppress_health_check=list(HealthCheck),
)
