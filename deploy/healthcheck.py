"""Exit code 0 when the worker on this machine's metrics port gets on: healthcheck.py PORT [PATH].

PATH is /healthz, or /readyz for whether every component owns its partitions. What the worker says
of itself is printed.
"""

import http.client
import sys

TIMEOUT_S = 4.0

port, path = int(sys.argv[1]), (*sys.argv[2:], "/healthz")[0]
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
try:
    connection.request("GET", path)
    answer = connection.getresponse()
    state = answer.read().decode(errors="replace")
except (OSError, http.client.HTTPException) as exc:
    sys.exit(f"port {port} does not answer: {exc}")
if answer.status != http.HTTPStatus.OK:
    sys.exit(state)
sys.stdout.write(f"{state}\n")
