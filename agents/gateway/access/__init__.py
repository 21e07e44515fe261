"""Who may ask the gateway: API keys and tokens, roles and rates, and TLS.

`guard` lets a request in or not; keys stand in a file (`api_keys`), tokens are somebody else's
(`access_tokens`, by the public keys of `key_set`). Its modules are imported one by one.
"""
