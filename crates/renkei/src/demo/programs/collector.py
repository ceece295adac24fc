"""Writes a real data set, record by record, to a broker: a plain SINETStream program.

It knows nothing of the mesh. Its broker is whatever .sinetstream_config.yml names.
Ends when its standard input closes, after the record under way. Prints one JSON object a line.
The Kafka client raises more than its own errors when a connection ends under it, so any is retried.
"""

import csv
import hashlib
import itertools
import json
import sys
import threading
import time

from sinetstream import MessageWriter
from vega_datasets import local_data


def digest(site, number, row):
    return hashlib.sha256(f"{site}/{number}/{row}".encode()).hexdigest()


def rows(data_set):
    with open(getattr(local_data, data_set).filepath, newline="") as file:
        return [",".join(row) for row in itertools.islice(csv.reader(file), 1, None)]


def main():
    site, data_set, rate = sys.argv[1], sys.argv[2], float(sys.argv[3])
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    records = itertools.cycle(rows(data_set))
    number, retried = 0, 0
    due = time.monotonic()
    while not stop.is_set():
        try:
            with MessageWriter("weather") as writer:
                while not stop.is_set():
                    row = next(records)
                    record = {"site": site, "n": number, "row": row, "sha256": digest(site, number, row)}
                    while True:
                        try:
                            writer.publish(json.dumps(record))
                            break
                        except Exception:
                            retried += 1
                            time.sleep(0.2)
                    number += 1
                    print(json.dumps({"sent": number, "retried": retried}), flush=True)
                    due = max(due + 1 / rate, time.monotonic() - 1)
                    stop.wait(max(0.0, due - time.monotonic()))
        except Exception as error:
            print(json.dumps({"sent": number, "retried": retried, "waiting": str(error)}), flush=True)
            stop.wait(0.5)
    print(json.dumps({"sent": number, "retried": retried, "done": True}), flush=True)


if __name__ == "__main__":
    main()
