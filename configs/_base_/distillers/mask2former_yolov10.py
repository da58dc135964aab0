# What passes from a Mask2Former of any size to a YOLOv10 with masks: to what features.py says, the map of
# stride 4 and the instances. A loss is left out by loss_weight=0.
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
    # Off: where every picture is labelled it brought nothing measurable, see docs/results.md.
    distill_losses=dict(
        loss_instance=dict(type="ibkd_mm.InstanceDistillLoss", temperature=3.0, loss_weight=0.0)
    ),
    loss_forward_mappings=dict(
        loss_cfb=dict(
            student=dict(recorder=["neck", "prototypes"], data_idx=[0, 1, 2, 3]),
            teacher=dict(data_idx=[[1, 2], [1, 1], [1, 0], [0]]),
        ),
        loss_instance=dict(
            one_to_many=dict(recorder="one_to_many", from_student=True),
            one_to_one=dict(recorder="one_to_one", from_student=True),
            teacher=dict(recorder="whole", from_student=False, connector="instances"),
        ),
    ),
)

# `ibkd cache CONFIG` runs the teacher once and writes what it sees to a file. A config that is to learn from
# that sets model = dict(online=False, distiller=_base_.cached): maps cannot be cached, instances can.
teacher_cache = dict(
    path="teacher_cache.sqlite",
    instances=dict(type="ibkd_mm.QueryInstances", score_thr=0.2),
    top=5,  # the likeliest classes of each
    levels=(0.5,),  # probabilities at which masks are cut; (0.25, 0.5, 0.75) keeps soft ones
    min_component_ratio=0.2,  # parts of a mask that have less of its largest are left out
    batch_size=16,
)
cached = dict(
    student_recorders=dict(seen=dict(type="ibkd_mm.DataSamples", source="teacher_instances")),
    connectors=dict(cached=dict(type="ibkd_mm.CachedInstances")),
    distill_losses=dict(loss_cfb=dict(loss_weight=0.0), loss_instance=dict(loss_weight=0.1)),
    loss_forward_mappings=dict(
        loss_instance=dict(
            teacher=dict(recorder="seen", from_student=True, connector="cached", towards="one_to_many")
        )
    ),
)
