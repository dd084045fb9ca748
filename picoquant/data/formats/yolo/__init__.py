"""Data sets in YOLO's format, as ultralytics, Roboflow, Label Studio, CVAT and darknet write them."""
