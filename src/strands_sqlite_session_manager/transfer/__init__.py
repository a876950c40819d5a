"""Sessions in and out: other Strands repositories, directories of `FileSessionManager`, JSON Lines.

Everything here copies. The source is only read, and the target keeps what it has: a record that is there already must
be equal, but for its times, which move on while a session is in use. So whatever was interrupted can be run again, and
goes on after what is there.

What a copy in a session database has is exactly what the source had, the times too. Other stores have no place for a
session's metadata, nor for the times of the states of graphs and swarms; those get the time of the copying or, from a
file, that of its last change.

`json_lines.py` describes the JSON Lines format.
"""

from .._catalog.records import RecordCounts
from .copies import CopyResult, copy_session
from .file_sessions import ExportReport, export_file_sessions, import_file_sessions
from .json_lines import export_jsonl, import_jsonl
from .reports import ImportReport, Skipped
from .snapshots import ConversionReport, from_snapshots, to_snapshots

__all__ = [
    "ConversionReport",
    "CopyResult",
    "ExportReport",
    "ImportReport",
    "RecordCounts",
    "Skipped",
    "copy_session",
    "export_file_sessions",
    "export_jsonl",
    "from_snapshots",
    "import_file_sessions",
    "import_jsonl",
    "to_snapshots",
]
