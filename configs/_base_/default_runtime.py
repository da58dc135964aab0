# What every config of ours has and no upstream base sets (mmengine refuses bases that share a key).
custom_imports = dict(imports=["ibkd_mm.register_all"], allow_failed_imports=False)

# Writes checkpoints atomically, resumes exactly, and adds four named hooks to `default_hooks`. They are changed
# by their names, and None removes one:
#   data_position  continue at the very sample at which a checkpoint was written
#   preemption     on a signal (signals=("SIGTERM", ...)): end the step, save, exit with exit_code=75
#   non_finite     skip a step whose loss or gradient is not finite; stop after patience=10 in a row
#   bad_samples    replace samples that cannot be read; stop when they are more than share=0.01 of the data
# such as  --cfg-options default_hooks.non_finite.patience=3
runner_type = "ibkd_mm.ResumableRunner"
