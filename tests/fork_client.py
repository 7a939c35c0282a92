"""Takes the place of `tinyslm` or `python`: gets a process from the fork server, whose socket is next to this file, and
ends as that process ends. It imports only what starts in milliseconds.
"""

import json
import os
import signal
import socket
import sys

connection = socket.socket(socket.AF_UNIX)
connection.connect(os.path.join(os.path.dirname(sys.argv[0]), "socket"))  # noqa: PTH118, PTH120  (pathlib takes longer)
asked = {"program": sys.argv[0], "arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
message = json.dumps(asked).encode() + b"\n"
sent = socket.send_fds(connection, [message], [0, 1, 2])
connection.sendall(message[sent:])
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: connection.send(bytes([number])))
answer = connection.recv(16)
if not answer:
    sys.exit("The fork server has ended.")
code = int(answer)
if code < 0:  # ended by a signal: so does this process
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
