"""The denoising engine: trajectories of many requests share forward passes, step by step."""
