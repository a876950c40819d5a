"""The command `strands-sqlite`."""
