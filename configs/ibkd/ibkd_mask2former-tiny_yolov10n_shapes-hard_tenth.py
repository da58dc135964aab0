# A tenth of the pictures has labels; in the others, what the teacher saw stands for them.
_base_ = "./ibkd_mask2former-tiny_yolov10n_shapes-hard_cached.py"
pictures = _base_.train_dataloader.dataset
load, _, riders, *others = pictures.pipeline
trusted = [load, dict(type="ibkd_mm.NoAnnotations"), dict(pseudo_label_thr=0.5, **riders), *others]
labelled = dict(type="RepeatDataset", times=3, dataset=dict(indices=200, **pictures))
unlabelled = dict(**{**pictures, "pipeline": trusted}, indices=list(range(200, 2000)))
train_dataloader = dict(dataset=dict(_delete_=True, type="ConcatDataset", datasets=[labelled, unlabelled]))
