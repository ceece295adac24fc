"""What a consumer with the group protocol of KIP-848 learns through the mesh. Arguments: the mesh's
local listener and the broker. Prints the first error as JSON.
"""

import json
import os
import sys
import time

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, NewTopic

mesh, broker = sys.argv[1:]
DEADLINE = 60

admin = AdminClient({"bootstrap.servers": broker})
for future in admin.create_topics([NewTopic("weather", 1, 1)]).values():
    future.result(DEADLINE)

told = []
consumer = ck.Consumer(
    {
        "bootstrap.servers": mesh,
        "group.id": "readers",
        "group.protocol": "consumer",
        "error_cb": told.append,
    }
)
consumer.subscribe(["weather"])
end = time.monotonic() + DEADLINE
while not told and time.monotonic() < end:
    try:
        message = consumer.poll(0.5)
    except ck.KafkaException as error:
        told.append(error.args[0])
        break
    if message is not None and message.error():
        told.append(message.error())
print(json.dumps(str(told[0]) if told else None))
# Nothing is to be waited for.
sys.stdout.flush()
os._exit(0)
