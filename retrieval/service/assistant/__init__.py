"""The index as tools of an assistant: MCP (the Model Context Protocol) over standard input and output.

`server` speaks the protocol, `tools` are what it offers. May import the service and all of its parts; only commands
import it.
"""
