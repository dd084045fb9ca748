"""Programs of PaddlePaddle 3 (`inference.json`, its intermediate representation PIR), read as a `ProgramDesc`."""
