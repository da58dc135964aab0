"""Trained students as files that run anywhere: export, its check, and a runtime that needs no other part."""
