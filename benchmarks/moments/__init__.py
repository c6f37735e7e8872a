"""How well a moment that is found covers what was asked for, in videos joined from real clips."""
