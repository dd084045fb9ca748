"""Detection in images, folders, videos or a camera, one frame at a time: only one frame is in memory."""
