# What every config of ours has and no upstream base sets (mmengine refuses bases that share a key).
custom_imports = dict(imports=["ibkd_mm"], allow_failed_imports=False)

# Checkpoints are written whole and resumed to the bit; `guards` are hooks besides, None takes one out.
runner_type = "ibkd_mm.TrustedRunner"
guards = dict(
    # Go on at the very sample at which a checkpoint was written.
    place=dict(type="ibkd_mm.PlaceHook"),
    # End the step, save and exit with this code on a signal; a scheduler can requeue on it.
    preemption=dict(type="ibkd_mm.PreemptionHook", signals=("SIGTERM", "SIGINT", "SIGUSR1"), exit_code=75),
    # Skip a step whose loss or gradient is not finite; stop after so many in a row.
    non_finite=dict(type="ibkd_mm.NonFiniteGuard", patience=10),
    # Replace samples that cannot be read; stop when they are more than this share of the data.
    bad_samples=dict(type="ibkd_mm.BadSampleGuard", share=0.01),
)
