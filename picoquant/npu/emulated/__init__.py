"""What VeriSilicon's emulator computes of a network, beside the simulation: values, and cycles."""
