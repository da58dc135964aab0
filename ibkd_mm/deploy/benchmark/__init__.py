"""Models timed beside each other."""
