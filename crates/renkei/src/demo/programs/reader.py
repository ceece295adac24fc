"""Reads every record and checks it by its number and its SHA-256: a plain SINETStream program.

Ends when its standard input closes. Prints one JSON object a line.
The Kafka client raises more than its own errors when a connection ends under it, so any is retried.
"""

import hashlib
import json
import sys
import threading
import time

from sinetstream import MessageReader

def main():
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    seen = {}
    repeated, corrupted = 0, 0
    while not stop.is_set():
        try:
            with MessageReader("mdx") as reader:
                messages = iter(reader)
                while not stop.is_set():
                    message = next(messages, None)
                    if message is None:
                        continue
                    try:
                        record = json.loads(message.value)
                        site, number, row = record["site"], record["n"], record["row"]
                        good = record["sha256"] == hashlib.sha256(f"{site}/{number}/{row}".encode()).hexdigest()
                    except (KeyError, ValueError):
                        good = False
                    if not good:
                        corrupted += 1
                    elif number in seen.setdefault(site, set()):
                        repeated += 1
                    else:
                        seen[site].add(number)
                    counts = {name: len(numbers) for name, numbers in seen.items()}
                    print(json.dumps({"delivered": counts, "repeated": repeated,
                                      "corrupted": corrupted}), flush=True)
        except Exception as error:
            print(json.dumps({"waiting": str(error)}), flush=True)
            time.sleep(0.5)

if __name__ == "__main__":
    main()
