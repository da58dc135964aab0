"""Samples and random numbers that a resumed training continues with."""
