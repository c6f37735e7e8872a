"""FFmpeg through PyAV: open a file, list its packets, reach any picture exactly, mend its times, notice damage.

`PyAVReader` (reader) uses all the others.
"""
