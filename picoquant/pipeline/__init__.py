"""Run folder, run.json and the order of stages."""
