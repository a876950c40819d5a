"""A database that looks like a week at a support desk, for the pictures of the viewer and its tests.

`python .github/pictures/support_desk.py sessions.db` makes it; then `strands-sqlite view --db sessions.db` shows it.
"""

import random
import struct
import sys
import zlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionRepository

NOW = datetime.now(timezone.utc).replace(microsecond=0)

ANSWER = """Good news: **it is on its way**. This is what the carrier has reported:

| When | Where | What |
|---|---|---|
| Mon 18:02 | Leipzig | sorted |
| Tue 06:40 | Hanover | out for delivery |

1. If nobody is at home, it goes to the shop in *Lange Straße 4*.
2. You can change that until noon, with the code `JD-0146`.

Shall I have it left with a neighbour?"""


def picture(width: int = 360, height: int = 170) -> bytes:
    """Return a PNG of a label with a bar code."""
    chance = random.Random(4)  # noqa: S311 (a picture)
    bars = [chance.random() < 0.5 for _ in range(width // 3)]
    rows = []
    for y in range(height):
        row = bytearray([0])
        for x in range(width):
            is_bar = 30 < y < 110 and 25 < x < width - 25 and bars[x // 3]
            is_line = (y in range(128, 134) and 25 < x < 240) or (y in range(144, 150) and 25 < x < 170)
            row += bytes((30, 34, 40)) if is_bar or is_line else bytes((252, 246, 226))
        rows.append(bytes(row))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


def call(number: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the call of a tool."""
    return {"toolUse": {"toolUseId": number, "name": name, "input": arguments}}


def result(number: str, *content: dict[str, Any], status: str = "success") -> dict[str, Any]:
    """Return what a tool gave."""
    return {"toolResult": {"toolUseId": number, "status": status, "content": list(content)}}


PARCEL: list[tuple[str, list[dict[str, Any]]]] = [
    (
        "user",
        [
            {"text": "Hello, where is my parcel? Here is the label 📦"},
            {"image": {"format": "png", "source": {"bytes": picture()}}},
        ],
    ),
    (
        "assistant",
        [
            {"reasoningContent": {"reasoningText": {"text": "The number on the label is JD-0146. Ask the carrier."}}},
            {"text": "Let me ask the carrier."},
            call("t1", "track_parcel", {"number": "JD-0146", "country": "DE"}),
            call("t2", "find_order", {"customer": 42, "newest": True}),
        ],
    ),
    (
        "user",
        [
            result(
                "t1",
                {"json": {"number": "JD-0146", "events": [{"at": "Leipzig", "status": "sorted"}], "days_left": 1}},
            ),
            result("t2", {"text": "Timeout after 5 s"}, status="error"),
        ],
    ),
    ("assistant", [{"text": ANSWER}]),
    ("user", [{"text": "[personal data removed]"}]),
    (
        "assistant",
        [
            {
                "citationsContent": {
                    "content": [{"text": "Done. A neighbour may sign for it, but not for parcels over 500 €."}],
                    "citations": [
                        {
                            "title": "Terms of delivery",
                            "location": {"documentPage": {"documentIndex": 0, "start": 3, "end": 3}},
                            "sourceContent": [{"text": "Parcels worth more than 500 € are handed to the addressee."}],
                        }
                    ],
                }
            },
            {"document": {"format": "pdf", "name": "Receipt JD-0146", "source": {"bytes": b"%PDF-1.4\n" * 2_000}}},
        ],
    ),
    ("user", [{"text": "شكراً جزيلاً! متى يصل الطرد بالضبط؟"}]),
    ("assistant", [{"text": "يصل الطرد غداً بين الساعة **10:00** و **12:00**. رقم الشحنة هو JD-0146."}]),
]

SWARM: dict[str, Any] = {
    "type": "swarm",
    "id": "refunds",
    "status": "interrupted",
    "node_history": ["triage", "billing", "fraud_check"],
    "node_results": {
        "triage": {"status": "completed", "execution_time": 1_240, "accumulated_usage": {"totalTokens": 812}},
        "billing": {"status": "completed", "execution_time": 3_905, "accumulated_usage": {"totalTokens": 2_310}},
        "fraud_check": {"status": "interrupted", "execution_time": 640, "accumulated_usage": {"totalTokens": 455}},
    },
    "next_nodes_to_execute": ["payout"],
    "current_task": "Refund order 7781: the customer says it never arrived.",
}


class _Stored:
    """Stands for a swarm or a graph."""

    def __init__(self, state: dict[str, Any]):
        self.id = state["id"]
        self._state = state

    def serialize_state(self) -> dict[str, Any]:
        """Return its state."""
        return self._state


def add_session(
    repository: SQLiteSessionRepository,
    session_id: str,
    ago: timedelta,
    agents: dict[str, list[tuple[str, list[dict[str, Any]]]]],
    **states: Any,
) -> None:
    """Store a session.

    Args:
        repository: Where to.
        session_id: Its id.
        ago: How long ago its last message was.
        agents: What was said, by agent.
        **states: `state`, `conversation_manager_state` and `internal_state` of its agents.
    """
    start = NOW - ago - timedelta(seconds=19 * max(map(len, agents.values())))
    repository.create_session(Session(session_id, SessionType.AGENT, start.isoformat(), start.isoformat()))
    for agent_id, talk in agents.items():
        agent = SessionAgent(
            agent_id,
            states.get("state", {}),
            states.get("conversation_manager_state", {"__name__": "SlidingWindowConversationManager"}),
            states.get("internal_state", {}),
            start.isoformat(),
            NOW.isoformat(),
        )
        repository.create_agent(session_id, agent, messages=[*_stored(talk, start)])


def _stored(talk: list[tuple[str, list[dict[str, Any]]]], start: datetime) -> list[SessionMessage]:
    messages = []
    for number, (role, content) in enumerate(talk):
        time = (start + timedelta(seconds=19 * (number + 1))).isoformat()
        message: Any = {"role": role, "content": content}
        if role == "assistant":
            tokens = {"inputTokens": 820 + 61 * number, "outputTokens": 74 + 31 * (number % 5)}
            usage = {**tokens, "totalTokens": sum(tokens.values())}
            message["metadata"] = {"usage": usage, "metrics": {"latencyMs": 900 + 310 * (number % 4)}}
        redacted = message if content[0].get("text", "").startswith("[personal") else None
        messages.append(SessionMessage(message, number, redacted, time, time))
    return messages


def small_talk(turns: int, topic: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return a plain conversation."""
    talk: list[tuple[str, list[dict[str, Any]]]] = []
    for number in range(turns):
        talk.append(("user", [{"text": f"I have a question about {topic}, number {number + 1}."}]))
        talk.append(("assistant", [{"text": f"Of course. What would you like to know about {topic}?"}]))
    return talk


def fill(db_path: Path) -> None:
    """Make the database."""
    with SQLiteSessionRepository(db_path) as repository, SessionCatalog(session_repository=repository) as catalog:
        add_session(
            repository,
            "user-42",
            timedelta(minutes=4),
            {"support": PARCEL},
            state={"customer": {"id": 42, "name": "Ada", "language": "de"}, "open_parcels": ["JD-0146"]},
        )
        summary = {
            "role": "user",
            "content": [{"text": "Summary: the customer asked about 34 invoices; all are paid."}],
        }
        add_session(
            repository,
            "billing-2031",
            timedelta(hours=3),
            {"billing": small_talk(40, "an invoice")},
            conversation_manager_state={
                "__name__": "SummarizingConversationManager",
                "removed_message_count": 68,
                "summary_message": summary,
            },
        )
        waiting = {
            "interrupt_state": {
                "activated": True,
                "context": {},
                "interrupts": {
                    "i1": {
                        "id": "i1",
                        "name": "approve_refund",
                        "reason": {"order": 7781, "amount": 129.9},
                        "response": None,
                    }
                },
            }
        }
        add_session(
            repository,
            "refund-7781",
            timedelta(hours=7),
            {
                "billing": small_talk(3, "a refund"),
                "fraud_check": small_talk(1, "a signature"),
                "triage": small_talk(2, "an order"),
            },
            internal_state=waiting,
        )
        repository.create_multi_agent("refund-7781", _Stored(SWARM))  # type: ignore[arg-type]
        long_id = "tenant-eu-central-1/customer-0f8fad5b-d9cb-469f-a165-70867728950e/thread-2026-11-03T09:12:44.512Z"
        add_session(repository, long_id, timedelta(days=1, hours=2), {"default": small_talk(6, "an address")})
        for number, (name, topic) in enumerate(
            [
                ("user-7", "a voucher"),
                ("user-105", "my password"),
                ("ユーザー-88", "a gift 🎁"),
                ("user-311", "a return"),
            ]
        ):
            ago = timedelta(days=number + 1, hours=number * 3)
            add_session(repository, name, ago, {"support": small_talk(4 + 3 * number, topic)})
        catalog.set_metadata("user-42", {"title": "Lost parcel", "team": "support", "priority": 2})
        catalog.set_metadata("billing-2031", {"team": "finance", "title": "Invoices of the third quarter"})
        catalog.set_metadata("refund-7781", {"team": "finance", "approval": True})
        catalog.set_metadata(long_id, {"team": "support", "region": "eu-central-1"})
        catalog.set_metadata("user-7", {"team": "support", "title": "קופון לא עובד"})


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
