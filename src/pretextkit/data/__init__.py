"""Images in: sources, folders, splits and the embedded sample."""
