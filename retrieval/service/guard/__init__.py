"""What stands before the routes of the service: who may ask, in what form, how much and how slowly.

`connections` and `requests` limit sizes and times, `hosts` and `sites` refuse what browsers send for other sites,
`tokens` asks for the token, `headers` says what browsers may do with answers. May import the service's options alone.
"""
