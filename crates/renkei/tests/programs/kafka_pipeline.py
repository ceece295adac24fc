"""A producer and a consumer group through the mesh: kafka_pipeline.py MESH BROKERS TOPIC.

Writes numbered records (acks=all, idempotent) to three partitions and reads them until its standard
input closes. Prints its progress as a JSON object a line. At the end it reads the topic's log beside
the mesh as well: the last line says what was lost or came twice, in the log and at the group.
"""

import json
import sys
import threading
import time
from collections import Counter

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

mesh, brokers, topic = sys.argv[1:]
PARTITIONS = 3
# Records a second.
RATE = 50
DEADLINE = 180

admin = AdminClient({"bootstrap.servers": brokers, "log_level": 0})
stop = threading.Event()
# Where the mesh shows each node.
shown = {}
acknowledged, failed = 0, []
sent = 0


def create():
    new = NewTopic(topic, PARTITIONS, 3, config={"min.insync.replicas": "2"})
    end = time.monotonic() + DEADLINE
    while True:
        try:
            admin.create_topics([new])[topic].result(30)
            return
        except KafkaException as error:
            # Nodes that came back a moment ago may not be counted yet.
            if time.monotonic() > end:
                sys.exit(f"no topic: {error}")
            time.sleep(0.5)


def delivered(error, _message):
    global acknowledged
    if error is None:
        acknowledged += 1
    else:
        failed.append(str(error))


def produce():
    global sent
    # librdkafka writes a record twice when a leader changes while several requests are under way:
    # it starts a new producer epoch after an out-of-order answer for one partition, and sends what
    # is under way for the others again (librdkafka issue 4953). One request at a time has no such
    # answers, so what comes twice here comes from the mesh.
    producer = Producer({
        "bootstrap.servers": mesh, "acks": "all", "enable.idempotence": True,
        "max.in.flight.requests.per.connection": 1,
        "delivery.timeout.ms": DEADLINE * 1000, "log_level": 0,
    })
    while not stop.is_set():
        producer.produce(topic, str(sent), partition=sent % PARTITIONS, on_delivery=delivered)
        sent += 1
        producer.poll(1 / RATE)
    producer.flush(DEADLINE)


def partitions():
    """Leader and in-sync replicas of each partition, as the brokers say."""
    try:
        found = admin.list_topics(topic, timeout=5).topics[topic].partitions
        return [(found[at].leader, found[at].isrs) for at in sorted(found)]
    except (KafkaException, KeyError):
        return []


def report(received):
    state = partitions()
    print(json.dumps({
        "acknowledged": acknowledged,
        "received": received,
        "leaders": [leader for leader, _ in state],
        "in_sync": min((len(isrs) for _, isrs in state), default=0),
        "mesh": shown,
    }), flush=True)


def consume(writer):
    """What the group read: values, and how often."""
    consumer = Consumer({
        "bootstrap.servers": mesh, "group.id": topic, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "log_level": 0,
    })
    consumer.subscribe([topic])
    seen, due, end = Counter(), 0, None
    while end is None or time.monotonic() < end:
        for message in consumer.consume(500, 0.2):
            if message.error() is None:
                seen[int(message.value())] += 1
        if seen:
            try:
                consumer.commit(asynchronous=True)
            except KafkaException:
                pass
        if time.monotonic() > due:
            report(len(seen))
            due = time.monotonic() + 1
        if not writer.is_alive():
            end = end or time.monotonic() + DEADLINE
            if len(seen) >= sent:
                break
    consumer.close()
    return seen


def log():
    """What the brokers hold, and whether each partition is in order."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "none", "log_level": 0})
    places = [TopicPartition(topic, at, 0) for at in range(PARTITIONS)]
    ends = {p.partition: consumer.get_watermark_offsets(p, timeout=60)[1] for p in places}
    consumer.assign(places)
    seen, latest, in_order = Counter(), {}, True
    left = {at for at, end in ends.items() if end}
    end = time.monotonic() + DEADLINE
    while left and time.monotonic() < end:
        for message in consumer.consume(500, 0.2):
            if message.error() is not None:
                continue
            at, value = message.partition(), int(message.value())
            seen[value] += 1
            in_order &= value > latest.get(at, -1)
            latest[at] = value
        positions = consumer.position(places)
        left = {p.partition for p in positions if p.offset < ends[p.partition] and ends[p.partition]}
    consumer.close()
    return seen, in_order


def result(held, in_order, group):
    def lost(seen):
        return [number for number in range(sent) if number not in seen]

    def doubled(seen):
        return [number for number, count in seen.items() if count > 1]

    return {
        "sent": sent, "acknowledged": acknowledged, "failed": failed, "in_order": in_order,
        "log_lost": lost(held), "log_doubled": doubled(held),
        "group_lost": lost(group), "group_doubled": doubled(group),
    }


create()
through = AdminClient({"bootstrap.servers": mesh, "log_level": 0}).list_topics(timeout=60)
shown.update({broker.id: f"{broker.host}:{broker.port}" for broker in through.brokers.values()})
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
writer = threading.Thread(target=produce, daemon=True)
writer.start()
group = consume(writer)
held, in_order = log()
print(json.dumps({"done": True, "result": result(held, in_order, group)}), flush=True)
