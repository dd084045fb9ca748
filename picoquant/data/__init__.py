"""Images and their annotations: data sets, transforms, readers. Nothing here imports paddle."""
