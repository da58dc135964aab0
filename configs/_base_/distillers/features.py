# Maps of a Mask2Former to those of any detector with a neck, at strides 8, 16 and 32. A config that inherits
# it beside a student's sets
#   model = dict(_delete_=True, architecture=_base_.model, distiller=_base_.distiller, teacher=..., ...)
#   default_hooks = _base_.distillation_hooks
# since mmengine refuses bases that share a key.
distiller = dict(
    type="ibkd_mm.CheckedDistiller",
    student_recorders=dict(neck=dict(type="ModuleOutputs", source="neck")),
    teacher_recorders=dict(pixel_decoder=dict(type="ModuleOutputs", source="panoptic_head.pixel_decoder")),
    # refine: what follows in each level of the bridge, such as dict(type="mmrazor.MGDConnector")
    connectors=dict(bridge=dict(type="ibkd_mm.CFB", refine=dict())),
    distill_losses=dict(
        # another loss of maps by one line: loss=dict(type="mmrazor.ChannelWiseDivergence", tau=1.0)
        loss_cfb=dict(type="ibkd_mm.LevelLoss", loss=dict(type="ibkd_mm.SyncedPKDLoss"), loss_weight=6.0),
    ),
    loss_forward_mappings=dict(
        loss_cfb=dict(
            student=dict(
                recorder="neck", from_student=True, data_idx=[0, 1, 2], connector="bridge", towards="teacher"
            ),
            # of the decoder's pair, maps from coarse to fine stand second; first stands that of stride 4
            teacher=dict(recorder="pixel_decoder", from_student=False, data_idx=[[1, 2], [1, 1], [1, 0]]),
        ),
    ),
)
distillation_hooks = dict(
    # Refuse a teacher from which nothing is to be learnt, before the first step.
    teacher_check=dict(type="ibkd_mm.TeacherCheckHook", images=50, least=0.02),
    # What each loss counts over the training; `all` is for those not named.
    distill_schedule=dict(type="ibkd_mm.DistillScheduleHook", schedules=dict(all=dict(warmup=100))),
)
