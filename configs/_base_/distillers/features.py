# Feature maps of a Mask2Former to those of any detector with a neck, at strides 8, 16 and 32. A config that
# inherits it beside a student's sets
#   model = dict(_delete_=True, architecture=_base_.model, distiller=_base_.distiller, teacher=..., ...)
#   default_hooks = _base_.distillation_hooks
# since mmengine refuses bases that share a key.
distiller = dict(
    type="ibkd_mm.CheckedDistiller",
    student_recorders=dict(neck=dict(type="ModuleOutputs", source="neck")),
    teacher_recorders=dict(pixel_decoder=dict(type="ModuleOutputs", source="panoptic_head.pixel_decoder")),
    distill_losses=dict(
        loss_cfb=dict(
            type="ibkd_mm.BridgedFeatureLoss",
            # another loss by one line: loss=dict(type="mmrazor.ChannelWiseDivergence", tau=1.0)
            loss=dict(type="ibkd_mm.SyncedPKDLoss"),
            # refine: a connector at the end of each level, such as dict(type="mmrazor.MGDConnector")
            bridge=dict(type="ibkd_mm.CFB", refine=dict()),
            student_levels=[0, 1, 2],
            teacher_levels=[3, 2, 1],  # the decoder's feature maps have strides 4, 32, 16, 8
            loss_weight=6.0,
        ),
    ),
    loss_forward_mappings=dict(
        loss_cfb=dict(
            student=dict(recorder="neck", from_student=True),
            teacher=dict(recorder="pixel_decoder", from_student=False),
        ),
    ),
)
distillation_hooks = dict(
    # Evaluate the teacher before the first step; stop if it is no use.
    teacher_check=dict(type="ibkd_mm.TeacherCheckHook", images=50, min_score=0.02),
    # The factor of each loss over the training; `all` is for those not named.
    distill_schedule=dict(type="ibkd_mm.DistillScheduleHook", schedules=dict(all=dict(warmup=100))),
)
