"""VeriSilicon's acuity, asked for its own simulation of an INT8 network, on TensorFlow, in a process of its own."""
