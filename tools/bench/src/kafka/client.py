"""Kafka clients that are measured: client.py ACTION BROKER TOPIC SECONDS [java].

produce      confluent-kafka's producer with acks=1 and its own batching, records of 1 KiB
consume      confluent-kafka's consumer, from the beginning of what was produced
sinetstream  SINETStream's writer, which waits for the broker's answer to each record

`java`: the socket buffers that the Java client asks for by default. Prints one JSON object: the
records that the broker acknowledged or delivered, the seconds that they took, and the processor
seconds of this program.
"""

import json
import os
import signal
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

RECORD = os.urandom(1024)
# A bound on what the broker keeps.
MOST = 1_000_000
JAVA_PRODUCER = {"socket.send.buffer.bytes": 131072, "socket.receive.buffer.bytes": 32768}
JAVA_CONSUMER = {"socket.send.buffer.bytes": 131072, "socket.receive.buffer.bytes": 65536}


def create(broker, topic):
    """Creates the topic in place of all others; what lies before the broker may still be starting."""
    deadline = time.monotonic() + 30
    while True:
        admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})
        try:
            old = [name for name in admin.list_topics(timeout=5).topics if not name.startswith("__")]
            if old:
                for deleted in admin.delete_topics(old, request_timeout=5).values():
                    deleted.result()
            for created in admin.create_topics([NewTopic(topic, 1, 1)], request_timeout=5).values():
                created.result()
            return
        except KafkaException as error:
            if time.monotonic() > deadline:
                sys.exit(f"no topic {topic} at {broker}: {error}")
            time.sleep(0.2)


def produce(broker, topic, seconds, java):
    create(broker, topic)
    settings = {"bootstrap.servers": broker, "acks": 1, "delivery.report.only.error": True}
    producer = Producer(settings | (JAVA_PRODUCER if java else {}))
    faults = []

    def failed(error, _message):
        faults.append(str(error))

    # Connected, and the topic's leader known.
    producer.produce(topic, RECORD, on_delivery=failed)
    if producer.flush(30):
        sys.exit("the first record was not acknowledged in 30 s")
    sent, start = 0, time.monotonic()
    while time.monotonic() - start < seconds and len(producer) + MOST > sent:
        try:
            for _ in range(100):
                producer.produce(topic, RECORD, on_delivery=failed)
                sent += 1
        except BufferError:
            producer.poll(0.01)
        producer.poll(0)
    took, acknowledged = time.monotonic() - start, sent - len(producer)
    if faults:
        sys.exit(f"{len(faults)} records failed: {faults[0]}")
    # What still waits is not part of the measurement.
    producer.purge()
    return acknowledged, took


def consume(broker, topic, seconds, java):
    settings = {
        "bootstrap.servers": broker,
        "group.id": topic,
        "enable.auto.commit": False,
    }
    consumer = Consumer(settings | (JAVA_CONSUMER if java else {}))
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
    consumer.assign([TopicPartition(topic, 0, 0)])
    count, start = 0, time.monotonic()
    while count < end and time.monotonic() - start < seconds:
        for message in consumer.consume(1000, 0.1):
            if message.error():
                sys.exit(f"after {count} records: {message.error()}")
            if len(message.value()) != len(RECORD):
                sys.exit(f"record {count} has {len(message.value())} bytes")
            count += 1
    took = time.monotonic() - start
    consumer.close()
    return count, took


def sinetstream(broker, topic, seconds, _java):
    from sinetstream import MessageWriter

    create(broker, topic)
    with open(".sinetstream_config.yml", "w") as file:
        file.write(
            "header: {version: 3}\nconfig:\n  measured:\n    type: kafka\n"
            f"    brokers: {broker}\n    topic: {topic}\n    consistency: AT_LEAST_ONCE\n"
        )
    with MessageWriter("measured", value_type="byte_array") as writer:
        writer.publish(RECORD)
        count, start = 0, time.monotonic()
        while time.monotonic() - start < seconds:
            writer.publish(RECORD)
            count += 1
        return count, time.monotonic() - start


def main():
    action, broker, topic, seconds = sys.argv[1:5]
    # Whatever hangs ends.
    signal.alarm(int(seconds) + 120)
    measured = {"produce": produce, "consume": consume, "sinetstream": sinetstream}[action]
    count, took = measured(broker, topic, float(seconds), "java" in sys.argv[5:])
    print(json.dumps({"records": count, "seconds": took, "cpu": time.process_time()}), flush=True)
    # The client's threads may still wait for the path.
    os._exit(0)


if __name__ == "__main__":
    main()
