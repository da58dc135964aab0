# What every config of ours has and no upstream base sets (mmengine refuses bases that share a key).
custom_imports = dict(imports=["ibkd_mm"], allow_failed_imports=False)
