"""Moves records from one broker to another: a plain SINETStream program.

Ends when its standard input closes. Prints one JSON object a line.
The Kafka client raises more than its own errors when a connection ends under it, so any is retried.
"""

import json
import sys
import threading
import time

from sinetstream import MessageReader, MessageWriter


def main():
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    moved, retried = 0, 0
    with MessageReader("weather") as reader:
        messages = iter(reader)
        pending = None
        while not stop.is_set():
            try:
                with MessageWriter("mdx") as writer:
                    while not stop.is_set():
                        pending = pending or next(messages, None)
                        if pending is None:
                            continue
                        writer.publish(pending.value)
                        pending = None
                        moved += 1
                        print(json.dumps({"moved": moved, "retried": retried}), flush=True)
            except Exception as error:
                # The record under way is written again: it may have arrived already.
                retried += 1
                print(json.dumps({"moved": moved, "retried": retried, "waiting": str(error)}), flush=True)
                time.sleep(0.5)


if __name__ == "__main__":
    main()
