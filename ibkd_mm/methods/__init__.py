"""The distillation methods, one package each; none imports another. `ibkd_mm.register_all` imports them all."""
