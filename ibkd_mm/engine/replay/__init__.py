"""A file with one step of a training, to run the step again."""
