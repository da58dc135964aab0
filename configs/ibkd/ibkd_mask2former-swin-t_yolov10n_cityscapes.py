# As ibkd_mask2former-r50_yolov10n_cityscapes.py, with a Swin-T teacher, fine-tuned likewise.
_base_ = "./ibkd_mask2former-r50_yolov10n_cityscapes.py"
model = dict(
    teacher="ibkd_mm::mask2former/mask2former_swin-t_cityscapes.py",
    teacher_ckpt="work_dirs/mask2former_swin-t_cityscapes/iter_90000.pth",
)
