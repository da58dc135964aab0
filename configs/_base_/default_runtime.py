# Settings of all our configs. No upstream base sets these keys (mmengine refuses bases that share a key).
custom_imports = dict(imports=["ibkd_mm.register_all"], allow_failed_imports=False)

# Writes checkpoints atomically, resumes exactly, and adds four named hooks to `default_hooks`. A config
# overrides a hook by its name; None removes it:
#   data_position  store the sampler position in the checkpoint, and continue from it
#   preemption     on a signal (signals=("SIGTERM", ...)): end the step, save, exit with exit_code=75
#   non_finite     skip a step whose loss or gradient is not finite; stop after patience=10 in a row
#   bad_samples    replace samples that cannot be read; stop if their share exceeds share=0.01
# for example  --cfg-options default_hooks.non_finite.patience=3
runner_type = "ibkd_mm.ResumableRunner"
