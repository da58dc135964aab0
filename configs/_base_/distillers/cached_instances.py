# Instances of the teacher from a file. `ibkd cache CONFIG` runs the teacher once and writes it. A config that
# trains on it sets model = dict(online=False, distiller=_base_.cached): feature maps cannot be cached.
teacher_cache = dict(
    path="teacher_cache.sqlite",
    instances=dict(type="ibkd_mm.QueryInstances", score_thr=0.2),
    topk_classes=5,  # the most probable classes of each
    mask_thresholds=(0.5,),  # probabilities that masks are cut at; (0.25, 0.5, 0.75) keeps soft masks
    min_component_ratio=0.2,  # smaller components of a mask, relative to its largest, are removed
    batch_size=16,
)
cached = dict(
    student_recorders=dict(cached=dict(type="ibkd_mm.DataSamples", source="teacher_instances")),
    distill_losses=dict(loss_cfb=dict(loss_weight=0.0), loss_instance=dict(loss_weight=0.1)),
    loss_forward_mappings=dict(
        loss_instance=dict(teacher=dict(_delete_=True, recorder="cached", from_student=True))
    ),
)
