"""The service's own host, with its defaults, around another application: one of wsgi.py.

python hosted.py ceiling | bare | view PORT
"""

import importlib
import sys

from service.commands.serve import SPARE_THREADS
from service.host.granian_adapter import GranianWorkers
from service.host.sockets import listen
from service.host.supervisor import Supervisor
from service.settings import ServiceSettings

if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    settings = ServiceSettings()
    threads = (settings.in_flight or 1) + settings.queue + SPARE_THREADS
    listeners = listen("127.0.0.1", port, 1)
    # Imported in the worker: the host's process stays as small as the service's.
    workers = GranianWorkers(
        listeners, lambda slot: getattr(importlib.import_module("wsgi"), kind)(), threads=threads
    )
    Supervisor(listeners, workers.start, drain_seconds=0).run()
