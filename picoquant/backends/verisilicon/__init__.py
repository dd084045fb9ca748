"""VeriSilicon's emulator of its NPUs, from its package `acuitylite`: what the chips of seven targets compute."""
