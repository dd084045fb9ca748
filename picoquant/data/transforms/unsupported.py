"""PaddleDetection's transforms that are not there, and why a file for PicoDet does not need them."""

_TARGETS = "targets of another detector: PicoDet's head makes its own"
_BOXES = "boxes in the form of another detector: PicoDet takes x1, y1, x2, y2 in pixels, padded"
_TRACKING = "for tracking, lanes, rotated boxes or key points"
_COLOURS = "augmentation of another detector"

UNSUPPORTED = {
    **dict.fromkeys(
        (
            "Gt2YoloTarget", "Gt2FCOSTarget", "Gt2TTFTarget", "Gt2Solov2Target", "Gt2SparseTarget",
            "Gt2CenterNetTarget", "Gt2CenterTrackTarget", "Gt2JDETargetThres", "Gt2JDETargetMax", "Gt2FairMOTTarget",
            "Poly2Mask", "PadMaskBatch",
        ),
        _TARGETS,
    ),
    **dict.fromkeys(("NormalizeBox", "BboxXYXY2XYWH", "BboxCXCYWH2XYXY", "Norm2PixelBbox", "PadBox"), _BOXES),
    **dict.fromkeys(
        (
            "MOTRandomAffine", "RGBReverse", "Poly2Array", "RandomRFlip", "RResize", "Poly2RBox", "PadRGT",
            "RandomRRotate", "CULaneTrainProcess", "CULaneDataProcess", "CULaneResize", "WarpAffine",
            "FlipWarpAffine", "TopDownAffine",
            "SniperDecodeCrop",
        ),
        _TRACKING,
    ),
    **dict.fromkeys(
        (
            "GridMask", "RandomShift", "RandomSelect", "RandomSelects", "RandomSizeCrop", "RandomShortSideResize",
            "RandomShortSideRangeResize", "RandomResizeCrop", "RandomScaledCrop", "CropWithSampling",
            "CropWithDataAchorSampling", "CenterRandColor", "Lighting", "PadResize", "PhotoMetricDistortion",
            "MultiscaleTestResize", "StrongAugImage", "RandomColorJitter", "RandomGrayscale", "RandomGaussianBlur",
            "RandomErasing", "RandomErasingCrop", "RandomErasingImage", "BatchRandomResizeForSSOD",
        ),
        _COLOURS,
    ),
}  # fmt: skip
