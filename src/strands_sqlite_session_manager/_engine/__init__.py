"""Databases: connections, transactions, errors, files, forks, the schema."""
