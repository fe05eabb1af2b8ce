"""Training: the loop, its steps, losses, schedules, checkpoints and reports."""
