# With Bifocal Attention Integration: maps of both are fused, where they attend to is compared once more, and
# the student's head learns on them too, less and less to the end. At strides 8, 16 and 32, on which the head
# stands. One share for all places, the published form, instead of one for each:
#   --cfg-options model.distiller.connectors.focus.alpha=0.5
_base_ = "./ibkd_mask2former-tiny_yolov10n_shapes-hard.py"
maps = dict(recorder="neck", from_student=True)
teacher = dict(recorder="pixel_decoder", from_student=False, data_idx=[[1, 2], [1, 1], [1, 0]])
bridged = dict(maps, connector=["bridge"], towards=["teacher"])
fused = dict(maps, connector=["bridge", "focus"], towards=["teacher", "teacher"])
brought_back = dict(maps, connector=["bridge", "focus", "back"], towards=["teacher", "teacher", "maps"])
model = dict(
    distiller=dict(
        connectors=dict(focus=dict(type="ibkd_mm.BAI"), back=dict(type="ibkd_mm.CFB")),
        distill_losses=dict(
            loss_attention=dict(type="ibkd_mm.AttentionLoss", temperature=0.5, loss_weight=6.0),
            loss_auxiliary=dict(type="ibkd_mm.AuxiliaryHeadLoss", share=0.5, loss_weight=0.5),
        ),
        loss_forward_mappings=dict(
            loss_attention=dict(student=bridged, teacher=teacher, fused=fused),
            loss_auxiliary=dict(
                maps=maps,
                teacher=teacher,
                fused=brought_back,
                step=dict(recorder="one_to_many", from_student=True),
            ),
        ),
    )
)
default_hooks = dict(distill_schedule=dict(schedules=dict(loss_auxiliary=dict(warmup=100, decay=0))))
