# From a Mask2Former of any size to a YOLOv10 with masks: what features.py has, the feature map of stride 4
# and the instances. A loss is switched off by loss_weight=0.
_base_ = "./features.py"
output = dict(type="ModuleOutputs")
criteria = "bbox_head.criteria"
distiller = dict(
    student_recorders=dict(
        prototypes=dict(source="bbox_head.prototypes.refine", **output),
        one_to_many=dict(source=f"{criteria}.one_to_many", **output),
        one_to_one=dict(source=f"{criteria}.one_to_one", **output),
    ),
    teacher_recorders=dict(whole=dict(source="", **output)),
    connectors=dict(instances=dict(type="ibkd_mm.QueryInstances")),
    distill_losses=dict(
        loss_cfb=dict(student_levels=[0, 1, 2, 3], teacher_levels=[3, 2, 1, 0]),
        # Off: where every image is labelled it brought nothing measurable, see docs/results.md.
        loss_instance=dict(type="ibkd_mm.InstanceDistillLoss", temperature=3.0, loss_weight=0.0),
    ),
    loss_forward_mappings=dict(
        loss_cfb=dict(student=dict(recorder=["neck", "prototypes"])),
        loss_instance=dict(
            one_to_many=dict(recorder="one_to_many", from_student=True),
            one_to_one=dict(recorder="one_to_one", from_student=True),
            teacher=dict(recorder="whole", from_student=False, connector="instances"),
        ),
    ),
)

# `ibkd cache CONFIG` runs the teacher once and writes its instances to a file. A config that trains on that
# file sets model = dict(online=False, distiller=_base_.cached): feature maps cannot be cached, instances can.
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
