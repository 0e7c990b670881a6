"""Makes a server of the ClickHouse engine in the wheel chdb-core.

usage: server.py PACKAGE FOLDER HTTP_PORT

PACKAGE is the wheel's folder `chdb`, FOLDER holds config.xml and data/. The engine's entry `_chdb.query` runs what
the program clickhouse-local runs: it reads config.xml in the current folder, and one of its statements opens the
configured ports. A second statement that never returns keeps them open. SIGTERM ends that statement, and with it
the engine in its own orderly way.
"""

import ctypes
import importlib.machinery
import importlib.util
import os
import signal
import sys
import threading
import urllib.request

# Names the endless statement, so that it can be found and ended.
ENDLESS = "keeps-the-ports-open"
SERVE = f"""
SYSTEM START LISTEN HTTP;
SELECT count() FROM system.numbers WHERE NOT ignore(sleepEachRow(1))
SETTINGS max_block_size = 1, max_threads = 1, log_comment = '{ENDLESS}'
"""
END = f"KILL QUERY WHERE Settings['log_comment'] = '{ENDLESS}' SYNC"
# A call over HTTP, and the engine's end after it, in seconds.
PATIENCE = 30


def load_engine(package):
    """The compiled module alone: `import chdb` would open an engine of its own, on the same data."""
    library = os.path.join(package, "_chdb.abi3.so")
    # The wheel's own symbols come before those of other libraries (RTLD_DEEPBIND).
    ctypes.CDLL(library, mode=sys.getdlopenflags() | 0x8)
    loader = importlib.machinery.ExtensionFileLoader("_chdb", library)
    engine = importlib.util.module_from_spec(importlib.util.spec_from_loader("_chdb", loader))
    loader.exec_module(engine)
    return engine


def call(port, path, body=None):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", data=body, timeout=PATIENCE) as answer:
        return answer.read()


def main(package, folder, port):
    # It looks for its other libraries beside itself.
    os.chdir(package)
    engine = load_engine(package)
    os.chdir(folder)
    ended, asked_to_end = threading.Event(), threading.Event()

    def serve():
        try:
            engine.query(SERVE, "TabSeparated", path=os.path.join(folder, "data"))
        except Exception as error:  # whatever it is, it is the end
            print("the engine ended:", str(error)[:2000], file=sys.stderr, flush=True)
        ended.set()

    threading.Thread(target=serve, daemon=True).start()
    handled = False
    while not ended.wait(0.05) and not asked_to_end.is_set():
        if not handled:
            try:
                call(port, "/ping")
            except OSError:
                continue
            # Not before: the engine sets handlers of its own while it starts.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: asked_to_end.set())
            handled = True
    if asked_to_end.is_set():
        call(port, "/", END.encode())
        ended.wait(PATIENCE)
    # Without Python's own end: the engine's threads may still run.
    os._exit(0 if asked_to_end.is_set() else 1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
