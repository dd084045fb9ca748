"""Detections in images, folders, a video or a camera, one after the other: nothing is held."""
