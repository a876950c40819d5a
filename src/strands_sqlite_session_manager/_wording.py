"""Numbers and times as people read them, on the command line and in the viewer."""

from datetime import datetime, timezone

from ._arguments import parsed_time


def size(number: int) -> str:
    """Return a number of bytes as a person reads it."""
    amount = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if round(amount, 1) < 1000:
            return f"{number} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} TB"


def plural(number: int, noun: str) -> str:
    """Return a number of things as a person reads it."""
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun[-1] == "y" and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number:,} {noun}"


def age(time: str, now: datetime | None = None) -> str:
    """Return how long ago a time was, as a person says it; of one to come, the day; what is no time, as it is."""
    try:
        passed = (now or datetime.now(timezone.utc)) - parsed_time(time).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return time
    seconds = passed.total_seconds()
    if seconds < 0:
        return time[:10]
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{plural(int(seconds // length), unit)} ago"
    return "just now"
