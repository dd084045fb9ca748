"""The five stages: settings in, a folder and metrics out. They know nothing of each other."""
