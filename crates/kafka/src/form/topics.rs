//! Requests about topics and their partitions.

use super::{
    LIST, List, TAGS, all, between,
    layout::{Field, Versioned},
    since,
    writer::{NULL, Part},
};

/// Topics with their partitions.
const fn partitioned(partition: &'static [Versioned<Field>]) -> List {
    List {
        partition: Some(partition),
        ..LIST
    }
}

/// Partitions by their numbers alone.
pub(super) const NUMBERS: &[Versioned<Field>] = &[all(Field::Fixed(4))];

pub(crate) const PRODUCE: List = List {
    before: &[since(3, Field::Transaction), all(Field::Fixed(2 + 4))], // acks, timeout
    id: &[between(0, 12, Field::Name), since(13, Field::TopicId)],
    answer_before: &[],
    answer_after: &[since(1, Part::I32(0)), all(Part::Tags)], // throttle time
    refused: &[
        all(Part::Index),
        all(Part::Error),
        all(Part::I64(-1)),       // base offset
        since(2, Part::I64(-1)),  // log append time
        since(5, Part::I64(-1)),  // log start offset
        since(8, Part::NoItems),  // record errors
        since(8, Part::NullText), // error message
        all(Part::Tags),
    ],
    ..partitioned(&[all(Field::Fixed(4)), all(Field::Blob), TAGS])
};

pub(crate) const FETCH: List = List {
    before: &[
        between(0, 14, Field::Replica),
        all(Field::Fixed(4 + 4)),  // wait, least bytes
        since(3, Field::Fixed(4)), // most bytes
        since(4, Field::Fixed(1)), // isolation
        since(7, Field::FetchSession),
    ],
    id: &[between(0, 12, Field::Name), since(13, Field::TopicId)],
    answer_before: &[
        since(1, Part::I32(0)), // throttle time
        since(7, Part::Top),
        since(7, Part::I32(0)), // session
    ],
    refused: &[
        all(Part::Index),
        all(Part::Error),
        all(Part::I64(-1)),       // high watermark
        since(4, Part::I64(-1)),  // last stable offset
        since(5, Part::I64(-1)),  // log start offset
        since(4, Part::NoItems),  // aborted transactions
        since(11, Part::I32(-1)), // preferred replica
        all(Part::NoItems),       // records
        all(Part::Tags),
    ],
    ..partitioned(&[
        all(Field::Fixed(4)),
        since(9, Field::Fixed(4)), // leader epoch
        all(Field::Fixed(8)),
        since(12, Field::Fixed(4)), // last epoch
        since(5, Field::Fixed(8)),  // log start offset
        all(Field::Fixed(4)),
        TAGS,
    ])
};

pub(crate) const LIST_OFFSETS: List = List {
    before: &[all(Field::Replica), since(2, Field::Fixed(1))], // isolation
    answer_before: &[since(2, Part::I32(0))],
    refused: &[
        all(Part::Index),
        all(Part::Error),
        between(0, 0, Part::NoItems), // offsets
        since(1, Part::I64(-1)),      // time
        since(1, Part::I64(-1)),      // offset
        since(4, Part::I32(-1)),      // leader epoch
        all(Part::Tags),
    ],
    ..partitioned(&[
        all(Field::Fixed(4)),
        since(4, Field::Fixed(4)), // leader epoch
        all(Field::Fixed(8)),
        between(0, 0, Field::Fixed(4)), // number of offsets
        TAGS,
    ])
};

pub(crate) const OFFSET_FOR_LEADER_EPOCH: List = List {
    before: &[since(3, Field::Replica)],
    answer_before: &[since(2, Part::I32(0))],
    refused: &[
        all(Part::Error),
        all(Part::Index),
        since(1, Part::I32(-1)), // leader epoch
        all(Part::I64(-1)),      // end offset
        all(Part::Tags),
    ],
    ..partitioned(&[
        all(Field::Fixed(4)),
        since(2, Field::Fixed(4)), // current epoch
        all(Field::Fixed(4)),
        TAGS,
    ])
};

pub(crate) const METADATA: List = List {
    nullable: true,
    id: &[
        since(10, Field::TopicId),
        between(0, 9, Field::Name),
        since(10, Field::NullableName),
    ],
    answer_before: &[
        since(3, Part::I32(0)),   // throttle time
        all(Part::NoItems),       // brokers
        since(2, Part::NullText), // cluster
        since(1, Part::I32(-1)),  // controller
    ],
    answer_after: &[
        between(8, 10, Part::I32(i32::MIN)), // authorized operations
        since(13, Part::Top),
        all(Part::Tags),
    ],
    refused: &[
        all(Part::Error),
        all(Part::Name),
        since(10, Part::TopicId),
        since(1, Part::I8(0)),         // internal
        all(Part::NoItems),            // partitions
        since(8, Part::I32(i32::MIN)), // authorized operations
        all(Part::Tags),
    ],
    ..LIST
};

pub(super) const DESCRIBE_TOPIC_PARTITIONS: List = List {
    answer_after: &[all(NULL), all(Part::Tags)], // cursor
    refused: &[
        all(Part::Error),
        all(Part::Name),
        all(Part::NoTopicId),
        all(Part::I8(0)), // internal
        all(Part::NoItems),
        all(Part::I32(i32::MIN)), // authorized operations
        all(Part::Tags),
    ],
    ..LIST
};

pub(crate) const CREATE_TOPICS: List = List {
    rest: &[
        all(Field::Fixed(4 + 2)),
        all(Field::List(&[
            all(Field::Fixed(4)),
            all(Field::Numbers),
            TAGS,
        ])),
        all(Field::List(&[all(Field::Text), all(Field::Text), TAGS])),
        TAGS,
    ],
    answer_before: &[since(2, Part::I32(0))],
    refused: &[
        all(Part::Name),
        since(7, Part::NoTopicId),
        all(Part::Error),
        since(1, Part::NullText), // error message
        since(5, Part::I32(-1)),  // partitions
        since(5, Part::I16(-1)),  // replicas
        since(5, Part::NoItems),  // configuration
        all(Part::Tags),
    ],
    ..LIST
};

pub(super) const DELETE_TOPICS: List = List {
    id: &[
        between(0, 5, Field::Name),
        since(6, Field::NullableName),
        since(6, Field::TopicId),
    ],
    rest: &[since(6, Field::Tags)],
    answer_before: &[since(1, Part::I32(0))],
    refused: &[
        all(Part::Id),
        all(Part::Error),
        since(5, Part::NullText), // error message
        all(Part::Tags),
    ],
    ..LIST
};

pub(super) const DELETE_RECORDS: List = List {
    refused: &[
        all(Part::Index),
        all(Part::I64(-1)), // low watermark
        all(Part::Error),
        all(Part::Tags),
    ],
    ..partitioned(&[all(Field::Fixed(4 + 8)), TAGS])
};

pub(super) const DESCRIBE_PRODUCERS: List = List {
    refused: &[
        all(Part::Index),
        all(Part::Error),
        all(Part::NullText),
        all(Part::NoItems),
        all(Part::Tags),
    ],
    ..partitioned(NUMBERS)
};

pub(super) const ADD_PARTITIONS_TO_TXN: List = List {
    before: &[all(Field::Text), all(Field::Fixed(8 + 2))],
    refused: &[all(Part::Index), all(Part::Error), all(Part::Tags)],
    ..partitioned(NUMBERS)
};

pub(super) const ELECT_LEADERS: List = List {
    before: &[since(1, Field::Fixed(1))],
    nullable: true,
    answer_before: &[all(Part::I32(0)), since(1, Part::Top)],
    refused: &[
        all(Part::Index),
        all(Part::Error),
        all(Part::NullText),
        all(Part::Tags),
    ],
    ..partitioned(NUMBERS)
};

pub(super) const CREATE_PARTITIONS: List = List {
    rest: &[
        all(Field::Fixed(4)),
        all(Field::List(&[all(Field::Numbers), TAGS])),
        TAGS,
    ],
    refused: &[
        all(Part::Name),
        all(Part::Error),
        all(Part::NullText),
        all(Part::Tags),
    ],
    ..LIST
};

pub(super) const ALTER_REPLICA_LOG_DIRS: List = List {
    outer: Some(&[all(Field::Text)]),
    refused: &[all(Part::Index), all(Part::Error), all(Part::Tags)],
    ..partitioned(NUMBERS)
};

const GROUP: &[Versioned<Field>] = &[all(Field::Text)];
const TOPIC_ID: &[Versioned<Field>] = &[all(Field::TopicId)];

/// Requests about the state of share groups, which only brokers send.
const fn share_state(
    partition: &'static [Versioned<Field>],
    refused: &'static [Versioned<Part>],
) -> List {
    List {
        before: GROUP,
        id: TOPIC_ID,
        partition: Some(partition),
        answer_before: &[],
        refused,
        ..LIST
    }
}

const SHARE_STATE_REFUSED: &[Versioned<Part>] = &[
    all(Part::Index),
    all(Part::Error),
    all(Part::NullText),
    all(Part::Tags),
];

pub(super) const INITIALIZE_SHARE_STATE: List =
    share_state(&[all(Field::Fixed(4 + 4 + 8)), TAGS], SHARE_STATE_REFUSED);

pub(super) const READ_SHARE_STATE: List = share_state(
    &[all(Field::Fixed(4 + 4)), TAGS],
    &[
        all(Part::Index),
        all(Part::Error),
        all(Part::NullText),
        all(Part::I32(0)), // state epoch
        all(Part::I64(0)), // start offset
        all(Part::NoItems),
        all(Part::Tags),
    ],
);

pub(super) const WRITE_SHARE_STATE: List = share_state(
    &[
        all(Field::Fixed(4 + 4 + 4 + 8)),
        since(1, Field::Fixed(4)), // delivered
        all(Field::List(&[all(Field::Fixed(8 + 8 + 1 + 2)), TAGS])),
        TAGS,
    ],
    SHARE_STATE_REFUSED,
);

pub(super) const DELETE_SHARE_STATE: List =
    share_state(&[all(Field::Fixed(4)), TAGS], SHARE_STATE_REFUSED);

pub(super) const SUMMARIZE_SHARE_STATE: List = share_state(
    &[all(Field::Fixed(4 + 4)), TAGS],
    &[
        all(Part::Index),
        all(Part::Error),
        all(Part::NullText),
        all(Part::I32(0)),       // state epoch
        all(Part::I32(0)),       // leader epoch
        all(Part::I64(0)),       // start offset
        since(1, Part::I32(-1)), // delivered
        all(Part::Tags),
    ],
);

/// What only brokers send: its answer has errors for partitions, of which it is left empty.
pub(super) const WRITE_TXN_MARKERS: List = List {
    id: &[all(Field::Fixed(8))],
    rest: &[
        all(Field::Fixed(2 + 1)),
        all(Field::List(&[all(Field::Text), all(Field::Numbers), TAGS])),
        all(Field::Fixed(4)),
        since(2, Field::Fixed(1)),
        TAGS,
    ],
    answer_before: &[],
    refused: &[all(Part::Id), all(Part::NoItems), all(Part::Tags)],
    ..LIST
};
