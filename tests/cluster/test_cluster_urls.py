"""URLs of clusters: what they say, and that a password is in no error. No server is needed."""

from pathlib import Path

import pytest
from strands.types.exceptions import SessionException

from nodes import free_ports
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._engine.address import parse_url

SECRET = "pa%2Fss%40word"


def test_says_nodes_user_password_and_options() -> None:
    address = parse_url(f"rqlites://app:{SECRET}@db1:1,[::1]:2,db3?ca=/a%20b.pem&level=weak")
    assert address.nodes == (("db1", 1), ("::1", 2), ("db3", 4001))
    assert address.credentials == "Basic YXBwOnBhL3NzQHdvcmQ="  # app:pa/ss@word
    assert (address.ca, address.level, address.is_encrypted) == ("/a b.pem", "weak", True)
    assert address.name == "rqlites://db1:1,[::1]:2,db3:4001"


def test_without_user_and_options() -> None:
    assert parse_url("rqlite://localhost/") == ((("localhost", 4001),), None, None, None, False)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (f"rqlite://app:{SECRET}@", "a node is no host and port"),
        (f"rqlite://app:{SECRET}@db1:70000", "a node is no host and port"),
        (f"rqlite://app:{SECRET}@db1,,db2", "a node is no host and port"),
        (f"rqlite://app:{SECRET}@db1:4001/path", "a node is no host and port"),
        (f"rqlite://app:{SECRET}", "a node is no host and port"),
        (f"rqlite://app?{SECRET}x@db1", "an option is no name=value"),
        (f"rqlite://app?{SECRET}=@db1", "the options are level and ca, each once"),
        (f"rqlite://db1?level={SECRET}", "the level is weak, strong or linearizable"),
        (f"rqlite://db1?level=weak&level={SECRET}", "the options are level and ca, each once"),
        (f"rqlite://app:{SECRET}@db1?levels=weak", "the options are level and ca, each once"),
        (f"rqlite://app:{SECRET}@db1?level=none", "the level is weak, strong or linearizable"),
        (f"rqlite://app:{SECRET}@db1?ca=/x", "ca is for rqlites://"),
        (f"http://app:{SECRET}@db1:4001", "a URL with http:// is no database; that of a cluster begins with rqlite://"),
        (f"https://app:{SECRET}@db1:4001", "a URL with https:// is no database"),
        (Path(f"rqlite://app:{SECRET}@db1:4001"), "begins with rqlite://, not a Path"),
        (f"rqlite:/app:{SECRET}@db1:4001", "begins with rqlite://, not a Path"),
        (f"RQLITE://app:{SECRET}@db1:4001", "begins with rqlite://, not a Path"),
        (f"libsql://app:{SECRET}@db1:4001", "a URL with libsql:// is no database"),
    ],
)
def test_others_are_refused_with_a_hint_and_without_the_password(url: str | Path, complaint: str) -> None:
    with pytest.raises(ValueError, match="db_path") as refused:
        SQLiteSessionRepository(url)
    assert complaint in str(refused.value)
    assert SECRET not in str(refused.value)


def test_blanks_around_it_are_none_of_it() -> None:
    (port,) = free_ports(1)
    with pytest.raises(SessionException, match=f"^rqlite://127.0.0.1:{port}: no node answered"):
        SQLiteSessionRepository(f" rqlite://127.0.0.1:{port}\n", busy_timeout=0)


def test_a_report_of_variables_has_no_password() -> None:
    assert repr(parse_url(f"rqlite://app:{SECRET}@db1")) == "rqlite://db1:4001"


def test_options_are_checked_as_for_a_file() -> None:
    for options in ({"busy_timeout": -1}, {"busy_timeout": "1"}, {"synchronous": "OFF"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            SQLiteSessionRepository("rqlite://localhost:1", **options)  # type: ignore[arg-type]


def test_certificates_that_cannot_be_read_are_named() -> None:
    with pytest.raises(SessionException, match=r"rqlites://localhost:1: the certificates /nowhere\.pem cannot be read"):
        SQLiteSessionRepository("rqlites://localhost:1?ca=/nowhere.pem")


@pytest.mark.slow
@pytest.mark.parametrize(
    "holder", [SQLiteSessionRepository, SessionCatalog, lambda url, **o: SQLiteSessionManager("s", url, **o)]
)
def test_a_cluster_that_is_not_there_is_an_error_that_names_it(holder: object) -> None:
    first, second = free_ports(2)
    url = f"rqlite://app:{SECRET}@127.0.0.1:{first},127.0.0.1:{second}"
    with pytest.raises(SessionException, match="no node answered within busy_timeout") as refused:
        holder(url, busy_timeout=0.2)  # type: ignore[operator]
    text = str(refused.value)
    assert text.startswith(f"rqlite://127.0.0.1:{first},127.0.0.1:{second}: ")
    assert "nothing was stored" in text
    assert "refused" in text
    assert SECRET not in repr(refused.value)


def test_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", f"rqlite://127.0.0.1:{port}")
    with pytest.raises(SessionException, match=f"rqlite://127.0.0.1:{port}: no node answered"):
        SQLiteSessionRepository(busy_timeout=0)
