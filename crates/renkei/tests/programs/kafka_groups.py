"""What groups and transactions do through the mesh: kafka_groups.py MESH BROKERS. Prints JSON."""

import json
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

mesh, brokers = sys.argv[1:]
DEADLINE = 120


def create(topic, partitions):
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(topic, partitions, 3)])[topic].result(60)


def consumer(group, **more):
    return Consumer({
        "bootstrap.servers": mesh, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "log_level": 0, **more,
    })


def poll_until(members, condition):
    """Polls each member in turn; what was read, by member."""
    end = time.monotonic() + DEADLINE
    read = [[] for _ in members]
    while not condition(read):
        if time.monotonic() > end:
            sys.exit(f"waited in vain; assigned: {[len(m.assignment()) for m in members]}")
        for member, values in zip(members, read):
            message = member.poll(0.1)
            if message is not None and message.error() is None:
                values.append(message.value().decode())
                member.commit(message, asynchronous=False)
    return read


def rebalance(protocol):
    topic = f"rebalance-{protocol}"
    create(topic, 4)
    producer = Producer({"bootstrap.servers": mesh, "acks": "all", "log_level": 0})

    def write(first):
        for number in range(first, first + 20):
            producer.produce(topic, str(number), partition=number % 4)
        assert producer.flush(DEADLINE) == 0

    first, second = (consumer(topic, **{"group.protocol": protocol}) for _ in range(2))
    read = []

    def shares(*members):
        return [len(member.assignment()) for member in members]

    first.subscribe([topic])
    read += poll_until([first], lambda _: shares(first) == [4])[0]
    second.subscribe([topic])
    for values in poll_until([first, second], lambda _: shares(first, second) == [2, 2]):
        read += values
    write(0)
    both = poll_until([first, second], lambda got: len(got[0]) + len(got[1]) == 20)
    first.close()
    read += poll_until([second], lambda _: shares(second) == [4])[0]
    write(20)
    alone = poll_until([second], lambda got: len(got[0]) == 20)
    second.close()
    read += both[0] + both[1] + alone[0]
    return {"each_read": [len(values) for values in both], "read": sorted(read, key=int)}


def transactions():
    create("accounts", 1)
    create("moves", 1)
    source = Producer({"bootstrap.servers": mesh, "acks": "all", "log_level": 0})
    source.produce("moves", b"order")
    assert source.flush(DEADLINE) == 0

    producer = Producer({
        "bootstrap.servers": mesh, "transactional.id": "mover", "log_level": 0,
        "transaction.timeout.ms": 60000,
    })
    producer.init_transactions(DEADLINE)
    for outcome in ("committed", "aborted"):
        producer.begin_transaction()
        for number in range(5):
            producer.produce("accounts", f"{outcome}-{number}")
        producer.flush(DEADLINE)
        finish = producer.commit_transaction if outcome == "committed" else producer.abort_transaction
        finish(DEADLINE)

    mover = consumer("movers")
    mover.subscribe(["moves"])
    poll = lambda: poll_one(mover)
    order = poll()
    producer.begin_transaction()
    producer.produce("accounts", order)
    offsets = [TopicPartition("moves", 0, 1)]
    producer.send_offsets_to_transaction(offsets, mover.consumer_group_metadata(), DEADLINE)
    producer.commit_transaction(DEADLINE)
    stored = mover.committed([TopicPartition("moves", 0)], timeout=DEADLINE)[0].offset
    mover.close()

    def seen(isolation):
        reader = consumer(f"reader-{isolation}", **{"isolation.level": isolation})
        reader.assign([TopicPartition("accounts", 0, 0)])
        values = []
        while not values or values[-1] != "order":
            values.append(poll_one(reader))
        reader.close()
        return values

    return {"committed": seen("read_committed"), "all": len(seen("read_uncommitted")), "stored": stored}


def poll_one(reader):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        message = reader.poll(1)
        if message is not None and message.error() is None:
            return message.value().decode()
    sys.exit("no record came")


print(json.dumps({
    "classic": rebalance("classic"),
    "consumer": rebalance("consumer"),
    "transactions": transactions(),
}))
