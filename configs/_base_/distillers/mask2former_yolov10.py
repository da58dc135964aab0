# From a Mask2Former of any size to a YOLOv10 with masks: what features.py has, the feature map of stride 4
# and the instances. A loss is switched off by loss_weight=0.
_base_ = ["./features.py", "./cached_instances.py"]
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
