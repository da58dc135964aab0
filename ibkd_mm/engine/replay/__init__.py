"""One step of a training, saved to be run again."""
