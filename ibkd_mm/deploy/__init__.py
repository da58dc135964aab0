"""Trained models as files that run without PyTorch: export, comparison with the model, and a runtime."""
