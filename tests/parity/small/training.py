"""Self-distillation, parameter groups, schedules and mixing."""


class Training:
    """Self-distillation, parameter groups, schedules and mixing."""
