"""Samples and random numbers that depend on the position of a training, so that it resumes exactly."""
