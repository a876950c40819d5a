"""One conversation that goes on from one machine to the next: two processes, each on another node of an rqlite cluster.

Start a cluster (docs/cluster.md says how), and run it with

    STRANDS_SQLITE_DB_PATH=rqlite://localhost:4001,localhost:4003,localhost:4005 python examples/06_cluster.py

It starts no node itself.
"""

import multiprocessing
import os

from strands import Agent

from _model import make_model
from _workspace import check, check_words, section
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager

SESSION_ID = "example-cluster"


def nodes_of(url: str) -> list[str]:
    """Return the URL of each node alone, as an application beside it would use it."""
    scheme, _, rest = url.partition("://")
    rest, mark, options = rest.partition("?")
    login, at, hosts = rest.rpartition("@")
    return [f"{scheme}://{login}{at}{host}{mark}{options}" for host in hosts.split(",")]


def ask(node: str, question: str) -> None:
    """Be a process on another machine: build the agent of the session, and ask it."""
    with SQLiteSessionManager(SESSION_ID, node) as manager:
        agent = Agent(model=make_model(), session_manager=manager, callback_handler=None)
        print(f"  process {os.getpid()}, with {len(agent.messages)} messages: {question}")
        print(f"  agent: {str(agent(question)).strip()}")


def main() -> None:
    """Run all sections."""
    url = os.environ.get("STRANDS_SQLITE_DB_PATH", "")
    if not url.startswith(("rqlite://", "rqlites://")):
        print("This example needs an rqlite cluster: set STRANDS_SQLITE_DB_PATH to rqlite://host:port,host:port.")
        print("docs/cluster.md says how to start one.")
        return
    nodes = nodes_of(url)
    with SessionCatalog(url) as catalog:
        if catalog.list_sessions(prefix=SESSION_ID).sessions:
            catalog.delete_sessions([SESSION_ID])

        section("1. Two processes, each on a node of its own")
        for number, question in enumerate(("My name is Ada.", "What is my name?")):
            process = multiprocessing.get_context("spawn").Process(
                target=ask, args=(nodes[number % len(nodes)], question)
            )
            process.start()
            process.join()
            check(process.exitcode == 0, f"process {number + 1} has answered")

        section("2. What the cluster has")
        messages = catalog.history(SESSION_ID, "default")
        check(len(messages) == 4, "both turns are in one conversation")
        check_words("Ada" in str(messages[-1].message), "the second process knew what the first was told")


if __name__ == "__main__":
    main()
