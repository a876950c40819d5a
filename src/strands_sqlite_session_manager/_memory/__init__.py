"""Memories: what agents remember across sessions, found by words and by meaning."""
