"""What everything that holds a database open has in common."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Closing(ABC):
    """Something with a `close` method, which a `with` statement calls at its end."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the database. Closing twice is fine."""

    def __enter__(self) -> "Self":
        """Return itself."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
