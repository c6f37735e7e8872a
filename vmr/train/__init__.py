"""Training of video-text models: configs, losses, the loop, checkpoints and logs.

Import `read_config` from `config_file`, the config classes from `config`, and `train` from `loop`: together they are a
training run from Python. The other modules are parts of that loop; nothing outside this package needs them.
"""
