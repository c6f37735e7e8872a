"""What the service answers, one module for each kind of request.

A route reads the request, calls one function of the service, and describes the result by a schema. May import the
service and all of its parts.
"""
