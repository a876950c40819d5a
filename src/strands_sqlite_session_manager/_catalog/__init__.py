"""What `SessionCatalog` does, by subject."""
