"""An agent's conversation: what it has now beside the log, and how both are stored."""
