# A tenth of the images has labels; the others have the teacher's instances as pseudo labels.
_base_ = "./ibkd_mask2former-tiny_yolov10n_shapes-hard_cached.py"
images = _base_.train_dataloader.dataset
load, _, instances, *others = images.pipeline
pseudo_labelled = [load, dict(type="ibkd_mm.NoAnnotations"), dict(pseudo_label_thr=0.5, **instances), *others]
labelled = dict(type="RepeatDataset", times=3, dataset=dict(indices=200, **images))
unlabelled = dict(**{**images, "pipeline": pseudo_labelled}, indices=list(range(200, 2000)))
train_dataloader = dict(dataset=dict(_delete_=True, type="ConcatDataset", datasets=[labelled, unlabelled]))
