"""Annotation formats: COCO, VOC, plain folders, the generated data set."""
