"""What clients of earlier years do through the mesh. Arguments: the client, the mesh's local
listener, the broker, and the folder of the broker's log.

The caller may write and read `weather`, and use the group `readers`. Prints what happened as JSON.
"""

import glob
import json
import signal
import struct
import sys
import time

client, mesh, broker, folder = sys.argv[1:]
DEADLINE = 60
# A client that waits for ever fails.
signal.alarm(4 * DEADLINE)


def prepare():
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics([NewTopic("weather", 1, 1)]).values():
        future.result(DEADLINE)
    return "made"


def until(step):
    """The first answer that is one."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        answer = step()
        if answer is not None:
            return answer
    return "nothing"


def kafka_python():
    """Writes compressed records and reads them by a group, twice: the second goes on."""
    import kafka

    producer = kafka.KafkaProducer(
        bootstrap_servers=mesh, compression_type="gzip", max_block_ms=DEADLINE * 1000
    )
    partition = kafka.TopicPartition("weather", 0)
    # Long enough to become shorter by compression.
    start = producer.send("weather", b"first".ljust(500)).get(DEADLINE).offset
    producer.send("weather", b"second".ljust(500)).get(DEADLINE)
    producer.close()

    def read(count):
        consumer = kafka.KafkaConsumer(
            "weather",
            bootstrap_servers=mesh,
            group_id="readers",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        seen = []

        def step():
            for records in consumer.poll(500, max_records=1).values():
                seen.extend(record for record in records if record.offset >= start)
            return seen if len(seen) >= count else None

        until(step)
        consumer.commit()
        committed = consumer.committed(partition)
        consumer.close()
        return [record.value.decode().strip() for record in seen], committed - start

    return {"version": kafka.__version__, "read": [read(1), read(1)]}


def librdkafka():
    """Writes records with each codec; says which the broker has."""
    import confluent_kafka as ck

    told = []
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        producer = ck.Producer({"bootstrap.servers": mesh, "compression.type": codec})
        for number in range(100):
            producer.produce(
                "weather", b"compressible " * 20, on_delivery=lambda error, _: told.append(error)
            )
        producer.flush(DEADLINE)
    failed = sorted({error.name() for error in told if error})
    return {"version": ck.libversion()[0], "failed": failed, "codecs": sorted(set(codecs()))}


def codecs():
    """The codecs of the batches in the broker's log: the attributes of each say it."""
    names = ["none", "gzip", "snappy", "lz4", "zstd"]
    for path in glob.glob(f"{folder}/node-1/weather-0/*.log"):
        with open(path, "rb") as log:
            content = log.read()
        at = 0
        while at + 23 <= len(content):
            length = struct.unpack(">i", content[at + 8 : at + 12])[0]
            if length <= 0:
                break
            attributes = struct.unpack(">h", content[at + 21 : at + 23])[0]
            yield names[attributes & 7]
            at += 12 + length


steps = {
    "prepare": prepare,
    "kafka-python": kafka_python,
    "librdkafka": librdkafka,
}
print(json.dumps(steps[client]()))
