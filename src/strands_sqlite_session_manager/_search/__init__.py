"""The search index: what is searched, how it is kept true, and how text is erased from it."""
