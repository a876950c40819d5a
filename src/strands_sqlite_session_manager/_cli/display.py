"""What the command line shows, as rich renders it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .._catalog.records import (
    AgentSummary,
    HistoryMessage,
    MultiAgentSummary,
    PruneResult,
    SearchResult,
    SessionEntry,
    SnapshotDiff,
    SnapshotSummary,
    Usage,
)
from .._memory.records import Memory
from .._wording import age, plural, size
from ..maintenance import DatabaseStats, Finding

# A tool call or result is folded to so many characters.
FOLD = 100

_ROLE_STYLES = {"user": "bold cyan", "assistant": "bold green"}
_SEVERITY_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}


def pruned(result: PruneResult) -> str:
    """Return what was pruned, or would be, as a person says it."""
    parts = [f"{plural(len(result.session_ids), 'session')} with {plural(result.messages, 'message')}"]
    others = (("snapshot", result.snapshots), ("expired key", result.keys), ("expired memory", result.memories))
    parts += [plural(number, noun) for noun, number in others if number]
    return f"{', '.join(parts)}, {size(result.bytes)}"


def plain(text: object, style: str = "") -> Text:
    """Return a text for a terminal, which must not take anything in it for a command."""
    return Text("".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in str(text)), style)


def one_line(text: object) -> str:
    """Return a text for a terminal without line breaks."""
    return plain(" ".join(str(text).splitlines())).plain


def json_text(text: str) -> str:
    """Return JSON for a terminal: what is not printable as an escape, which means the same."""
    return re.sub(r"[^\n -~]", lambda match: match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1], text)


def sessions_table(
    sessions: Iterable[SessionEntry], agents: Mapping[str, Sequence[AgentSummary]], now: datetime
) -> Table:
    """Return a list of sessions."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    # Folded, not cut, where the terminal is too narrow: an id is there to be copied.
    table.add_column("session", overflow="fold")
    table.add_column("last active")
    table.add_column("agents")
    table.add_column("messages", justify="right")
    table.add_column("kind", style="dim")
    table.add_column("metadata", style="dim")
    for session in sessions:
        table.add_row(
            plain(session.session_id),
            plain(age(session.updated_at, now)),
            plain(", ".join(agent.agent_id for agent in agents[session.session_id])),
            plain("damaged", "bold red")
            if any(agent.damage for agent in agents[session.session_id])
            else f"{sum(agent.message_count for agent in agents[session.session_id]):,}",
            plain(session.session_type.lower()),
            plain("damaged", "bold red")
            if session.damage
            else plain(", ".join(f"{name}={value}" for name, value in session.metadata.items())),
        )
    return table


def memory_places(places: Iterable[Sequence[Any]]) -> Table:
    """Return stores and scopes, each with how many memories it has and when the last was added."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("store", overflow="fold")
    table.add_column("scope", overflow="fold")
    table.add_column("memories", justify="right")
    table.add_column("last added")
    for store, scope, count, updated_at in places:
        table.add_row(plain(store), plain(scope), f"{count:,}", plain(age(updated_at, datetime.now(timezone.utc))))
    return table


def memories_table(memories: Iterable[Memory]) -> Table:
    """Return a list of memories, each on one line."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("id", justify="right")
    table.add_column("memory", overflow="fold")
    table.add_column("added")
    for memory in memories:
        table.add_row(
            str(memory.memory_id),
            plain(_beginning(" ".join(memory.content.split()))),
            plain(age(memory.updated_at, datetime.now(timezone.utc))),
        )
    return table


def _beginning(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


def memory(shown: Memory) -> RenderableType:
    """Return all of a memory."""
    metadata = plain(shown.damage, "bold red") if shown.damage else plain(_folded(shown.metadata))
    lines = [plain(shown.content), Text(), Text.assemble(("metadata ", "dim"), metadata)]
    for name in ("times_added", "created_at", "updated_at", "used_at", "expires_at"):
        lines.append(Text.assemble((f"{name} ", "dim"), plain(getattr(shown, name) or "never")))
    return Group(*lines)


def conversation(agent_id: str, messages: Iterable[HistoryMessage]) -> RenderableType:
    """Return a conversation, oldest message first."""
    return Group(plain(f"agent {agent_id}", style="bold underline"), *_messages(messages))


def snapshots_table(found: Iterable[SnapshotSummary], now: datetime) -> Table:
    """Return a list of snapshots."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("snapshot", overflow="fold")
    table.add_column("taken")
    table.add_column("messages", justify="right")
    table.add_column("size", justify="right")
    table.add_column("app data", style="dim")
    for snapshot in found:
        table.add_row(
            plain(snapshot.snapshot_id or "latest"),
            plain(age(snapshot.created_at, now)),
            f"{snapshot.message_count:,}",
            size(snapshot.size),
            plain(snapshot.damage, "bold red")
            if snapshot.damage
            else plain(", ".join(f"{name}={value}" for name, value in snapshot.app_data.items())),
        )
    return table


def snapshot_diff(diff: SnapshotDiff) -> RenderableType:
    """Return what differs between two snapshots: messages, then the rest by name."""
    lines: list[Text] = []
    for title, messages in (("removed", diff.removed), ("added", diff.added)):
        if messages:
            lines += [plain(title, "bold underline"), *_messages(messages), Text()]
    for before, after in diff.changed:
        lines += [plain("changed", "bold underline"), *_messages([before, after]), Text()]
    if diff.state_keys:
        lines.append(plain(f"state: {', '.join(diff.state_keys)}"))
    if diff.parts:
        lines.append(plain(f"also: {', '.join(diff.parts)}"))
    return Group(*lines) if lines else Text("no difference", style="dim")


def _messages(messages: Iterable[HistoryMessage]) -> list[Text]:
    lines: list[Text] = []
    for shown in messages:
        role = "damaged" if shown.damage else str(shown.message["role"])
        head = plain(role, _ROLE_STYLES.get(role, "bold red" if shown.damage else "bold"))
        head.append_text(plain(f"  {shown.message_id}  {shown.created_at}", "not bold dim"))
        if shown.is_redacted:
            head.append("  redacted", style="bold yellow")
        blocks = [plain(shown.damage)] if shown.damage else map(_block, shown.message["content"])
        lines += [Text(), head, *blocks]
    return lines


def multi_agents(found: Iterable[MultiAgentSummary]) -> RenderableType:
    """Return the graphs and swarms of a session, each with its status, its task and what comes next."""
    lines = []
    for summary in found:
        head = plain(f"{summary.kind or 'multi-agent'} {summary.multi_agent_id}", "bold underline")
        head.append_text(plain(f"  {summary.status or 'unknown'}  {summary.updated_at}", "not bold not underline dim"))
        lines += [Text(), head]
        if summary.damage:
            lines.append(plain(summary.damage, "red"))
        if summary.current_task is not None:
            lines.append(plain(f"task: {_folded(summary.current_task)}"))
        if summary.next_nodes:
            lines.append(plain(f"next: {', '.join(summary.next_nodes)}"))
    return Group(*lines)


def _block(block: Any) -> Text:
    if not isinstance(block, Mapping) or not block:
        return plain(block)
    kind, value = next(iter(block.items()))
    if kind == "text":
        return plain(value)
    if kind == "json":
        return plain(_folded(value))
    if not isinstance(value, Mapping):
        return plain(f"[{kind}: {_folded(value)}]", "dim")
    if kind == "toolUse":
        return plain(f"→ {value.get('name')}({_folded(value.get('input'))})", "magenta")
    if kind == "toolResult":
        content = value.get("content")
        shown = "; ".join(_block(item).plain for item in content) if isinstance(content, list) else str(content)
        return plain(
            f"← {value.get('status', 'success')}: {_folded(shown)}", "red" if value.get("status") == "error" else "blue"
        )
    if kind == "citationsContent":
        content, citations = (
            found if isinstance(found, list) else [] for found in map(value.get, ("content", "citations"))
        )
        answer = plain("".join(_block(item).plain for item in content))
        return answer.append(f"\n[{plural(len(citations), 'citation')}]", style="dim")
    if kind in ("image", "document", "video"):
        name = f" {value['name']}" if "name" in value else ""
        return plain(f"[{kind}{name}, {value.get('format')}, {_source(value.get('source'))}]", "yellow")
    if kind == "reasoningContent":
        reasoning = value.get("reasoningText")
        text = reasoning.get("text") if isinstance(reasoning, Mapping) else None
        return plain(f"(thinking: {_folded(text or 'not shown')})", "dim italic")
    return plain(f"[{kind}: {_folded(value)}]", "dim")


def _source(source: Any) -> str:
    if isinstance(source, Mapping) and isinstance(source.get("bytes"), bytes):
        return size(len(source["bytes"]))
    return _folded(source)


def _folded(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= FOLD else f"{text[:FOLD]}… ({len(text):,} characters)"


def search_results(results: Iterable[SearchResult]) -> RenderableType:
    """Return messages that were found, each with its place and a part of its text."""
    lines = []
    for result in results:
        head = plain(result.session_id, "bold")
        head.append_text(
            plain(f"  {result.agent_id}  {result.message_id}  {result.role}  {result.created_at}", "not bold dim")
        )
        lines += [head, plain(" ".join(result.snippet.split())), Text()]
    return Group(*lines[:-1]) if lines else Text("nothing found", style="dim")


def usage_table(by: str, totals: Mapping[Any, Usage]) -> Table:
    """Return tokens by session, agent or day, with bars."""
    table = Table(by, box=None, header_style="bold", pad_edge=False)
    for column in ("messages", "input", "output", "total"):
        table.add_column(column, justify="right")
    table.add_column(min_width=20, max_width=40)
    highest = max((usage.total_tokens for usage in totals.values()), default=0)
    for key, usage in totals.items():
        table.add_row(
            plain(" / ".join(key) if isinstance(key, tuple) else key),
            f"{usage.message_count:,}",
            f"{usage.input_tokens:,}",
            f"{usage.output_tokens:,}",
            f"{usage.total_tokens:,}",
            Bar(max(highest, 1), 0, usage.total_tokens, color="green"),
        )
    return table


def stats_tables(stats: DatabaseStats) -> RenderableType:
    """Return the sizes of a database."""
    tables = Table("table", box=None, header_style="bold", pad_edge=False)
    sessions = Table("largest sessions", box=None, header_style="bold", pad_edge=False)
    for column in ("rows", "size"):
        tables.add_column(column, justify="right")
    for column in ("messages", "size"):
        sessions.add_column(column, justify="right")
    for entry in stats.tables:
        tables.add_row(plain(entry.name), f"{entry.rows:,}", size(entry.size))
    for session in stats.largest_sessions:
        sessions.add_row(plain(session.session_id), f"{session.messages:,}", size(session.size))
    if stats.file_size is None or stats.free_size is None or stats.log_size is None:
        summary = "a cluster; how large its files are, each node tells at GET /status"
    else:
        summary = f"file {size(stats.file_size)}, of it free {size(stats.free_size)}; log {size(stats.log_size)}"
    return Group(plain(stats.path, style="bold"), Text(summary), Text(), tables, Text(), sessions)


def findings_list(findings: Iterable[Finding]) -> RenderableType:
    """Return what a check found, each with what to do."""
    lines = []
    for finding in findings:
        style = _SEVERITY_STYLES[finding.severity]
        lines.append(Text.assemble((f"{finding.severity}: ", style), plain(finding.message)))
        lines.append(plain(f"  {finding.advice}", style="dim"))
    return Group(*lines) if lines else Text("nothing found", style="green")
