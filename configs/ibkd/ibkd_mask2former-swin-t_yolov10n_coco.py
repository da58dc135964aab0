# As ibkd_mask2former-r50_yolov10n_coco.py, with a Swin-T teacher.
_base_ = "./ibkd_mask2former-r50_yolov10n_coco.py"
model = dict(teacher="ibkd_mm::mask2former/mask2former_swin-t_coco.py")
