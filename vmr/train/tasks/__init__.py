"""What a run learns: retrieval, classification, self-distillation or masked pre-training. The loop is the same for all.

A task turns a loader's batch into tensors, computes its losses, and saves its model.
"""
