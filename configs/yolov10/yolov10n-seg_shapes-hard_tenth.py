# As yolov10n-seg_shapes-hard.py, with labels for only the first tenth of the images.
_base_ = "./yolov10n-seg_shapes-hard.py"
train_dataloader = dict(dataset=dict(indices=200))
