"""Lives of an agent, and what must be the same when it is built again."""

import copy
import json
from pathlib import Path
from typing import Any

from strands import Agent

from helpers import make_agent
from nodes import raw_connection
from strands_sqlite_session_manager import SQLiteSessionManager


def everything(agent: Agent) -> dict[str, Any]:
    """What an agent is."""
    return copy.deepcopy(
        {
            "messages": agent.messages,
            "state": agent.state.get(),
            "interrupts": agent._interrupt_state.to_dict(),
            "model_state": getattr(agent, "_model_state", None),
            "conversation_manager": agent.conversation_manager.get_state(),
        }
    )


class Life:
    """An agent that can be built again, and every message that the SDK told its session manager of."""

    def __init__(self, db_path: Path, **options: Any):
        self.db_path = db_path
        self.options = options
        self.log: list[str] = []
        self.agent = self.build()

    def build(self, *answers: Any, **options: Any) -> Agent:
        """Build the agent with a new manager, as a new process would."""
        made = {name: value() if callable(value) else value for name, value in {**self.options, **options}.items()}
        return make_agent(Logging("s", self.db_path, log=self.log), *answers, **made)

    def ask(self, question: Any, *answers: Any) -> None:
        """Have a turn; the model gives these answers."""
        self.agent.model.answers[:] = answers or ["an answer"]
        self.agent(question)

    def compare(self) -> Agent:
        """Assert that the agent comes back as it is, and that the log is whole, and return the one that came back."""
        again = self.build()
        assert everything(again) == everything(self.agent)
        assert self.stored_log() == self.log
        return again

    def restart(self) -> None:
        """Go on with the agent that came back."""
        self.agent = self.compare()

    def stored_log(self) -> list[str]:
        with raw_connection(self.db_path) as connection:
            rows = connection.execute("SELECT message_id, message FROM messages ORDER BY message_id").fetchall()
        assert [message_id for message_id, _ in rows] == list(range(len(rows)))
        return [summary(json.loads(message)) for _, message in rows]

    def live_view(self) -> Any:
        with raw_connection(self.db_path) as connection:
            ((text,),) = connection.execute("SELECT live_view FROM agents").fetchall()
        return json.loads(text)


class Logging(SQLiteSessionManager):
    """Notes down what it is told."""

    def __init__(self, *arguments: Any, log: list[str], **options: Any):
        super().__init__(*arguments, **options)
        self._log = log

    def append_message(self, message: Any, agent: Any, **kwargs: Any) -> None:
        self._log.append(summary(message))
        super().append_message(message, agent, **kwargs)


def summary(message: Any) -> str:
    """Return role and texts of a message: enough to tell it from others."""
    texts = [block.get("text") or next(iter(block)) for block in message["content"]]
    return f"{message['role']}: {' '.join(texts)}"
