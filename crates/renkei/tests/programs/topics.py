"""What Kafka clients see of topic rights. Arguments: the broker, the mesh's local listener.

The caller may write and read `weather`, see `quakes`, and use the group `readers`; it may do nothing
with `secret`. Prints what happened as JSON.
"""

import json
import sys
import time

import confluent_kafka as ck
import kafka
from confluent_kafka.admin import AdminClient, NewTopic
from kafka.errors import KafkaError

broker, mesh = sys.argv[1:]
TOPICS = ["weather", "quakes", "secret"]
DEADLINE = 40


def until(step, *arguments):
    """The first answer that is one."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        answer = step(*arguments)
        if answer is not None:
            return answer
    return "nothing"


def prepare():
    """Topics with one record each, made beside the mesh."""
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in TOPICS]).values():
        future.result(30)
    producer = ck.Producer({"bootstrap.servers": broker})
    for topic in TOPICS:
        producer.produce(topic, b"first")
    assert producer.flush(30) == 0


def librdkafka():
    transport, delivered = [], {}

    def failed(error):
        if error.code() in (ck.KafkaError._TRANSPORT, ck.KafkaError._ALL_BROKERS_DOWN):
            transport.append(str(error))

    def report(name):
        return lambda error, _: delivered.update({name: error.name() if error else "ok"})

    base = {"bootstrap.servers": mesh, "error_cb": failed}
    producer = ck.Producer({**base, "linger.ms": 300})
    # In one request: one is allowed, one is not.
    producer.produce("weather", b"second", on_delivery=report("weather"))
    producer.produce("quakes", b"second", on_delivery=report("quakes"))
    producer.produce("secret", b"second", on_delivery=report("secret"))
    producer.flush(DEADLINE)
    producer.produce("weather", b"third", on_delivery=report("weather again"))
    producer.flush(DEADLINE)
    listed = sorted(producer.list_topics(timeout=DEADLINE).topics)
    hidden = producer.list_topics("secret", timeout=DEADLINE).topics["secret"].error

    idempotent = ck.Producer({**base, "enable.idempotence": True})
    idempotent.produce("weather", b"fourth", on_delivery=report("numbered"))
    idempotent.flush(DEADLINE)

    def consumer(group):
        settings = {"group.id": group, "auto.offset.reset": "earliest"}
        return ck.Consumer({**base, **settings})

    def next_of(reader):
        message = reader.poll(1)
        if message is None:
            return None
        return message.error().name() if message.error() else message.value().decode()

    readers = consumer("readers")
    readers.subscribe(["weather"])
    read = [until(next_of, readers) for _ in range(4)]
    readers.commit(asynchronous=False)
    readers.close()
    readers = consumer("readers")
    denied = {}
    readers.assign([ck.TopicPartition("quakes", 0, 0)])
    denied["quakes"] = until(next_of, readers)
    readers.assign([ck.TopicPartition("weather", 0, 0)])

    def good(reader):
        message = reader.poll(1)
        return None if message is None or message.error() else message.value().decode()

    again = until(good, readers)
    readers.close()
    readers = consumer("readers")
    readers.subscribe(["secret"])
    denied["secret"] = until(next_of, readers)
    readers.close()
    others = consumer("others")
    others.subscribe(["weather"])
    stranger = until(next_of, others)
    others.close()
    return {
        "delivered": delivered,
        "listed": listed,
        "hidden": hidden.name() if hidden else "ok",
        "read": read,
        "denied": denied,
        "again": again,
        "stranger": stranger,
        "transport": transport,
    }


def kafka_python():
    def tried(step, *arguments, **named):
        try:
            return step(*arguments, **named)
        except KafkaError as error:
            return type(error).__name__

    producer = kafka.KafkaProducer(bootstrap_servers=mesh, acks=1, max_block_ms=DEADLINE * 1000)

    def send(topic):
        producer.send(topic, b"fifth").get(DEADLINE)
        return "ok"

    delivered = {topic: tried(send, topic) for topic in TOPICS}
    delivered["weather again"] = tried(send, "weather")
    producer.close()

    def consumer(group):
        return kafka.KafkaConsumer(
            bootstrap_servers=mesh, group_id=group, auto_offset_reset="earliest"
        )

    def next_of(reader):
        for records in reader.poll(1000).values():
            return records[0].value.decode()
        return None

    reader = consumer("readers")
    listed = sorted(reader.topics())
    denied = {}
    for topic in ("quakes", "weather"):
        partition = kafka.TopicPartition(topic, 0)
        reader.assign([partition])
        tried(reader.seek, partition, 0)
        denied[topic] = tried(until, next_of, reader)
    reader.close()
    others = consumer("others")
    others.subscribe(["weather"])
    stranger = tried(until, next_of, others)
    others.close(autocommit=False)
    return {"delivered": delivered, "listed": listed, "denied": denied, "stranger": stranger}


prepare()
print(json.dumps({"librdkafka": librdkafka(), "kafka_python": kafka_python()}))
