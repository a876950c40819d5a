"""Several agents: side by side in one session, in conversation, in a graph and in a swarm.

Run it from any directory with `python examples/02_multi_agent.py`.
"""

import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

from strands import Agent, tool
from strands.hooks import BeforeInvocationEvent, HookProvider, HookRegistry
from strands.multiagent import GraphBuilder, Swarm
from strands.multiagent.graph import Graph

from _model import make_model
from _workspace import ask, check, check_words, section, text_of, workspace
from strands_sqlite_session_manager import SQLiteSessionManager

SESSION_IDS = ("example-team", "example-interview", "example-newsroom", "example-support", "example-shared")


def side_by_side(db_path: Path) -> None:
    """One manager serves all agents of its session. The agent ids tell them apart."""
    section("1. Several agents in one session")
    with SQLiteSessionManager("example-team", db_path) as manager:
        tutor = Agent(model=make_model(), agent_id="tutor", session_manager=manager, callback_handler=None)
        coach = Agent(model=make_model(), agent_id="coach", session_manager=manager, callback_handler=None)
        ask(tutor, "My subject is algebra.")
        ask(coach, "My sport is rowing.")

    with SQLiteSessionManager("example-team", db_path) as manager:
        tutor = Agent(model=make_model(), agent_id="tutor", session_manager=manager, callback_handler=None)
        coach = Agent(model=make_model(), agent_id="coach", session_manager=manager, callback_handler=None)
        check(len(tutor.messages) == 2 and len(coach.messages) == 2, "each agent has its own conversation back")
        check_words("algebra" in ask(tutor, "What is my subject?"), "the tutor knows what the tutor was told")
        check_words("rowing" not in ask(tutor, "What is my sport?"), "the tutor does not know what the coach was told")


HOST_PROMPT = (
    "You interview a guest. Ask one question at a time, in this order, and nothing else: "
    "'What is your name?', 'What is your field?', 'What is your advice?'"
)
GUEST_PROMPT = (
    "You are the guest of an interview. Your name is Ada. Your field is astronomy. Your advice is patience. "
    "Answer in one sentence."
)


def interview(db_path: Path) -> None:
    """What one agent says is what the other one hears.

    Both are built again for each round, so the host can only know which question is next from the database.
    """
    section("2. An interview, agent to agent")
    answer = "Welcome, please begin."
    for _ in range(3):
        with SQLiteSessionManager("example-interview", db_path) as manager:
            host = Agent(
                model=make_model(),
                agent_id="host",
                system_prompt=HOST_PROMPT,
                session_manager=manager,
                callback_handler=None,
            )
            guest = Agent(
                model=make_model(),
                agent_id="guest",
                system_prompt=GUEST_PROMPT,
                session_manager=manager,
                callback_handler=None,
            )
            question = str(host(answer)).strip()
            answer = str(guest(question)).strip()
            print(f"  host:  {question}\n  guest: {answer}")

    with SQLiteSessionManager("example-interview", db_path) as manager:
        host_messages = manager.list_messages("example-interview", "host")
        guest_messages = manager.list_messages("example-interview", "guest")
        asked = [text_of(message) for message in host_messages if message.message["role"] == "assistant"]
        heard = [text_of(message) for message in guest_messages if message.message["role"] == "user"]
        check(asked == heard and len(asked) == 3, "the guest heard the three questions that the host asked")
        check_words(len(set(asked)) == 3, "no question was asked twice, although the host was built again each time")
        check_words("patience" in answer, "the last answer is the advice")


TASK = "Explain why most coasts have two tides a day."
CRASHED = 70  # Exit code of a process that died as planned.


class Progress(HookProvider):
    """Notes, whenever an agent starts, what the database has as done. Can let the process die there."""

    def __init__(self, manager: SQLiteSessionManager, dies_before: str | None = None):
        """Remember what to read, and before which agent to die."""
        self.notes: list[tuple[str, list[str]]] = []
        self._manager = manager
        self._dies_before = dies_before

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Ask to be told when an agent starts."""
        registry.add_callback(BeforeInvocationEvent, self._agent_starts)

    def _agent_starts(self, event: BeforeInvocationEvent) -> None:
        state = self._manager.read_multi_agent("example-newsroom", "article") or {}
        self.notes.append((event.agent.name, state["execution_order"]))
        print(f"  {event.agent.name} starts; stored as done: {state['execution_order']}", flush=True)
        if event.agent.name == self._dies_before:
            os._exit(CRASHED)  # Like a kill: nothing is cleaned up, no `finally` runs.


def article_graph(manager: SQLiteSessionManager, progress: Progress) -> Graph:
    """Return the graph: researcher, then writer, then reviewer.

    The graph has the session manager. Its agents must have none: the graph's state holds their results.
    """
    builder = GraphBuilder()
    for name, begin in (("researcher", "Notes:"), ("writer", "Draft:"), ("reviewer", "Review:")):
        agent = Agent(
            model=make_model(),
            name=name,
            system_prompt=f"You are a {name}. Begin your answer with '{begin}'",
            hooks=[progress],
            callback_handler=None,
        )
        builder.add_node(agent, name)
    builder.add_edge("researcher", "writer")
    builder.add_edge("writer", "reviewer")
    builder.set_entry_point("researcher")
    builder.set_max_node_executions(10)
    builder.set_graph_id("article")
    builder.set_session_manager(manager)
    return builder.build()


def start_article_and_die(db_path: Path) -> None:
    """Run the graph until the process dies: this runs in a process of its own."""
    with SQLiteSessionManager("example-newsroom", db_path) as manager:
        article_graph(manager, Progress(manager, dies_before="writer"))(TASK)


def newsroom(db_path: Path) -> None:
    """A process dies in the middle. A new graph goes on with the node that had not run yet."""
    section("3. Researcher, writer and reviewer: a graph that is resumed")
    process = multiprocessing.get_context("spawn").Process(target=start_article_and_die, args=(db_path,))
    process.start()
    process.join()
    check(process.exitcode == CRASHED, "the process died after the first of three nodes")

    with SQLiteSessionManager("example-newsroom", db_path) as manager:
        state = manager.read_multi_agent("example-newsroom", "article") or {}
        check(state["execution_order"] == ["researcher"], "what was done is stored")
        check(state["next_nodes_to_execute"] == ["writer"], "so is where to go on")

        progress = Progress(manager)
        result = article_graph(manager, progress)(TASK)
        check(
            progress.notes == [("writer", ["researcher"]), ("reviewer", ["researcher", "writer"])],
            "the new graph went on with the writer, and saved it before the reviewer started",
        )
        for node in result.execution_order:
            print(f"  {node.node_id}: {str(result.results[node.node_id].result).strip()}")
        check(result.completed_nodes == 3, "the result covers all three")
        review = str(result.results["reviewer"].result)
        check_words("Notes:" in review and "Draft:" in review, "the reviewer was given what the other two had written")
        state = manager.read_multi_agent("example-newsroom", "article") or {}
        check(state["status"] == "completed", "the end is stored")


def support(db_path: Path) -> None:
    """Each agent decides for itself whom to hand over to, with the tool `handoff_to_agent` that the swarm gives it."""
    section("4. A support case, handed from agent to agent: a swarm")
    # Older versions of the SDK log tracebacks of their own tracing when they run a swarm.
    logging.getLogger("opentelemetry.context").setLevel(logging.CRITICAL)
    with SQLiteSessionManager("example-support", db_path) as manager:
        front_desk = Agent(
            model=make_model(),
            name="front_desk",
            system_prompt=(
                "You are the front desk. Do not solve anything. Call handoff_to_agent with 'billing', "
                "'The customer was charged twice.' and the context {'priority': 'high'}"
            ),
            callback_handler=None,
        )
        billing = Agent(
            model=make_model(),
            name="billing",
            system_prompt=(
                "You are billing. You cannot refund. Call handoff_to_agent with 'manager', "
                "'Please refund the second charge.' and the context {'approved': 'yes'}"
            ),
            callback_handler=None,
        )
        manager_agent = Agent(
            model=make_model(),
            name="manager",
            system_prompt="You are the manager. Answer the customer, and hand over to nobody.",
            callback_handler=None,
        )
        # As in a graph, the swarm has the session manager and its agents have none.
        swarm = Swarm([front_desk, billing, manager_agent], session_manager=manager, id="case")
        result = swarm("I was charged twice. My order number is A-17. To be sure: What is my order number?")
        for node in result.node_history:
            print(f"  {node.node_id}: {str(result.results[node.node_id].result).strip()}")

    with SQLiteSessionManager("example-support", db_path) as manager:
        state = manager.read_multi_agent("example-support", "case") or {}
        check(state["status"] == "completed", "the case is stored as completed")
        check_words(state["node_history"] == ["front_desk", "billing", "manager"], "so is the way it took")
        check_words(
            state["context"]["shared_context"] == {"front_desk": {"priority": "high"}, "billing": {"approved": "yes"}},
            "so is what the agents shared on the way",
        )
        answer = state["node_results"][state["node_history"][-1]]["result"]["message"]
        check_words("A-17" in str(answer), "so is the answer, by the last agent to the first agent's customer")


def shared_context(db_path: Path) -> None:
    """Two ways to let one agent know what another one was told."""
    section("5. Context shared between agents")
    with SQLiteSessionManager("example-shared", db_path) as manager:
        intake = Agent(model=make_model(), agent_id="intake", session_manager=manager, callback_handler=None)
        ask(intake, "My destination is Lisbon.")

        # A new agent starts with a copy of the conversation. From there on, each has its own.
        planner = Agent(
            model=make_model(),
            agent_id="planner",
            messages=[message.to_message() for message in manager.list_messages("example-shared", "intake")],
            session_manager=manager,
            callback_handler=None,
        )
        check_words("Lisbon" in ask(planner, "What is my destination?"), "the planner knows from the copy")
        check(len(manager.list_messages("example-shared", "planner")) == 4, "the copy is stored as the planner's own")
        check(len(manager.list_messages("example-shared", "intake")) == 2, "the original is as it was")

        # An agent looks up another one's conversation when it needs to.
        @tool
        def read_conversation(agent_id: str) -> str:
            """Read what the user has told another agent.

            Args:
                agent_id: Id of the other agent.
            """
            messages = manager.list_messages("example-shared", agent_id)
            return "\n".join(text_of(message) for message in messages if message.message["role"] == "user")

        guide = Agent(
            model=make_model(),
            agent_id="guide",
            tools=[read_conversation],
            session_manager=manager,
            callback_handler=None,
        )
        answer = ask(guide, "Please read conversation 'intake' and tell me where I am going.")
        check_words("Lisbon" in answer, "the guide knows from the database")


def main() -> None:
    """Run the sections, each in a session of its own."""
    with workspace(*SESSION_IDS) as (_, db_path):
        side_by_side(db_path)
        interview(db_path)
        newsroom(db_path)
        support(db_path)
        shared_context(db_path)


if __name__ == "__main__":  # The new process imports this file too.
    main()
