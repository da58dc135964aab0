"""The distillation methods, one package each; none imports another."""
