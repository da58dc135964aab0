# As yolov10n-seg_shapes-hard.py, where somebody labelled the first tenth of the pictures alone.
_base_ = "./yolov10n-seg_shapes-hard.py"
train_dataloader = dict(dataset=dict(indices=200))
