# Shapes that a small detector learns in a minute: few instances, plain ground, little overlap.
_base_ = "./shapes_instance.py"
data_root = "data/shapes/easy"
spec = dict(preset="easy")
train_dataloader = dict(dataset=dict(data_root=data_root, spec=spec))
val_dataloader = dict(dataset=dict(data_root=data_root, spec=spec))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "/annotations/val.json")
test_evaluator = val_evaluator
