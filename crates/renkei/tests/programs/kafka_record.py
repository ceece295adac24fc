"""One record to a broker and back, by a client that knows one address: kafka_record.py BROKER.

Prints what was read, and the addresses that the client was given.
"""

import json
import sys
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

broker, topic = sys.argv[1], "weather"
client = {"bootstrap.servers": broker, "log_level": 0}

admin = AdminClient(client)
admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)
producer = Producer({**client, "acks": "all"})
producer.produce(topic, "rain")
assert producer.flush(60) == 0, "the record was not acknowledged"

reader = Consumer({**client, "group.id": "readers", "auto.offset.reset": "earliest"})
reader.subscribe([topic])
end = time.monotonic() + 60
read = None
while read is None and time.monotonic() < end:
    message = reader.poll(1)
    if message is not None and message.error() is None:
        read = message.value().decode()
reader.close()
brokers = admin.list_topics(timeout=60).brokers.values()
print(json.dumps({"read": read, "brokers": [f"{one.host}:{one.port}" for one in brokers]}))
