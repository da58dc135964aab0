# Shapes that a small detector learns in a minute: few instances, plain ground, little overlap.
_base_ = "./shapes_instance.py"
easy = dict(data_root="data/shapes/easy", spec=dict(preset="easy"))
train_dataloader = dict(dataset=easy)
val_dataloader = dict(dataset=easy)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="data/shapes/easy/annotations/val.json")
test_evaluator = val_evaluator
