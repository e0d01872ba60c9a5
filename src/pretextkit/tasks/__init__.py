"""Built-in pretext tasks, one a file."""
