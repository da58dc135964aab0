"""The distillation methods, one package each; none imports another. `register_all` imports them all."""
