//! The forms of requests and of the answers that say no, from the protocol's message definitions.

use super::{
    layout::{Field, Versioned},
    rule::{Each, Part, Shown},
};
use crate::rights::Right;

const fn all<T: Copy>(what: T) -> Versioned<T> {
    Versioned::always(what)
}

const fn since<T: Copy>(version: i16, what: T) -> Versioned<T> {
    Versioned::since(version, what)
}

/// An element that is a topic's name and its partitions.
const fn partitioned(right: Right, partition: &'static [Versioned<Field>]) -> Each {
    Each {
        right,
        before: &[],
        nullable: false,
        element: &[],
        partition: Some(partition),
        answer_before: THROTTLE,
        answer_after: ONLY_TAGS,
        denied: &[],
        shown: None,
        group_denied: None,
    }
}

const TAGS: Versioned<Field> = all(Field::Tags);
const ONLY_TAGS: &[Versioned<Part>] = &[all(Part::Tags)];
const THROTTLE: &[Versioned<Part>] = &[all(Part::I32(0))];

pub(super) const PRODUCE: Each = Each {
    before: &[all(Field::Transaction), all(Field::Fixed(2 + 4))], // acks, timeout
    answer_before: &[],
    answer_after: &[all(Part::I32(0)), all(Part::Tags)], // throttle time
    denied: &[
        all(Part::Index),
        all(Part::Error),
        all(Part::I64(-1)),       // base offset
        all(Part::I64(-1)),       // log append time
        since(5, Part::I64(-1)),  // log start offset
        since(8, Part::NoItems),  // record errors
        since(8, Part::NullText), // error message
        all(Part::Tags),
    ],
    ..partitioned(
        Right::Produce,
        &[all(Field::Fixed(4)), all(Field::Blob), TAGS],
    )
};

pub(super) const FETCH: Each = Each {
    // Replica, wait, least and most bytes, isolation.
    before: &[
        all(Field::Fixed(4 + 4 + 4 + 4 + 1)),
        since(7, Field::FetchSession),
    ],
    // Throttle time, error code, session.
    answer_before: &[
        all(Part::I32(0)),
        since(7, Part::I16(0)),
        since(7, Part::I32(0)),
    ],
    denied: &[
        all(Part::Index),
        all(Part::Error),
        all(Part::I64(-1)),       // high watermark
        all(Part::I64(-1)),       // last stable offset
        since(5, Part::I64(-1)),  // log start offset
        all(Part::NoItems),       // aborted transactions
        since(11, Part::I32(-1)), // preferred replica
        all(Part::NoItems),       // records
        all(Part::Tags),
    ],
    ..partitioned(
        Right::Consume,
        &[
            all(Field::Fixed(4)),
            since(9, Field::Fixed(4)), // leader epoch
            all(Field::Fixed(8)),
            since(12, Field::Fixed(4)), // last epoch
            since(5, Field::Fixed(8)),  // log start offset
            all(Field::Fixed(4)),
            TAGS,
        ],
    )
};

pub(super) const LIST_OFFSETS: Each = Each {
    before: &[all(Field::Fixed(4)), since(2, Field::Fixed(1))], // replica, isolation
    answer_before: &[since(2, Part::I32(0))],
    denied: &[
        all(Part::Index),
        all(Part::Error),
        all(Part::I64(-1)),      // time
        all(Part::I64(-1)),      // offset
        since(4, Part::I32(-1)), // leader epoch
        all(Part::Tags),
    ],
    ..partitioned(
        Right::Describe,
        &[
            all(Field::Fixed(4)),
            since(4, Field::Fixed(4)), // leader epoch
            all(Field::Fixed(8)),
            TAGS,
        ],
    )
};

pub(super) const OFFSET_FOR_LEADER_EPOCH: Each = Each {
    before: &[since(3, Field::Fixed(4))], // replica
    denied: &[
        all(Part::Error),
        all(Part::Index),
        all(Part::I32(-1)), // leader epoch
        all(Part::I64(-1)), // end offset
        all(Part::Tags),
    ],
    ..partitioned(Right::Describe, &[all(Field::Fixed(4 + 4 + 4)), TAGS])
};

pub(super) const OFFSET_COMMIT: Each = Each {
    before: &[
        all(Field::Group),
        all(Field::Fixed(4)), // generation
        all(Field::Text),     // member
        since(7, Field::Text),
        Versioned::between(2, 4, Field::Fixed(8)), // retention
    ],
    answer_before: &[since(3, Part::I32(0))],
    denied: &[all(Part::Index), all(Part::Error), all(Part::Tags)],
    ..partitioned(
        Right::Consume,
        &[
            all(Field::Fixed(4 + 8)),
            since(6, Field::Fixed(4)), // leader epoch
            all(Field::Text),
            TAGS,
        ],
    )
};

pub(super) const OFFSET_FETCH: Each = Each {
    before: &[all(Field::Group)],
    nullable: true,
    answer_before: &[since(3, Part::I32(0))],
    answer_after: &[all(Part::I16(0)), all(Part::Tags)], // error code
    denied: &[
        all(Part::Index),
        all(Part::I64(-1)),      // offset
        since(5, Part::I32(-1)), // leader epoch
        all(Part::NoText),       // metadata
        all(Part::Error),
        all(Part::Tags),
    ],
    shown: Some(Shown {
        before: &[since(3, Field::Fixed(4))],
        element: &[
            all(Field::Name),
            all(Field::List(&[
                all(Field::Fixed(4 + 8)),
                since(5, Field::Fixed(4)),
                all(Field::Text),
                all(Field::Fixed(2)),
                TAGS,
            ])),
            TAGS,
        ],
    }),
    group_denied: Some(&[
        since(3, Part::I32(0)),
        all(Part::NoItems),
        all(Part::Error),
        all(Part::Tags),
    ]),
    ..partitioned(Right::Describe, &[all(Field::Fixed(4))])
};

pub(super) const METADATA: Each = Each {
    nullable: true,
    element: &[all(Field::Name), TAGS],
    partition: None,
    // Unused: the broker always answers, and its list stands behind the brokers.
    answer_before: &[],
    denied: &[
        all(Part::Error),
        all(Part::Name),
        since(1, Part::I8(0)),         // internal
        all(Part::NoItems),            // partitions
        since(8, Part::I32(i32::MIN)), // authorized operations
        all(Part::Tags),
    ],
    shown: Some(Shown {
        before: &[
            all(Field::Fixed(4)), // throttle time
            all(Field::List(&[
                all(Field::Fixed(4)),
                all(Field::Text),
                all(Field::Fixed(4)),
                all(Field::Text),
                TAGS,
            ])),
            all(Field::Text),     // cluster
            all(Field::Fixed(4)), // controller
        ],
        element: &[
            all(Field::Fixed(2)),
            all(Field::Name),
            all(Field::Fixed(1)),
            all(Field::List(&[
                all(Field::Fixed(2 + 4 + 4)),
                since(7, Field::Fixed(4)),
                all(Field::Numbers),
                all(Field::Numbers),
                since(5, Field::Numbers),
                TAGS,
            ])),
            since(8, Field::Fixed(4)),
            TAGS,
        ],
    }),
    ..partitioned(Right::Describe, &[])
};

pub(super) const DESCRIBE_GROUPS: Each = Each {
    element: &[all(Field::Name)],
    partition: None,
    answer_before: &[since(1, Part::I32(0))],
    denied: &[
        all(Part::Error),
        all(Part::Name),
        all(Part::NoText), // state
        all(Part::NoText), // protocol type
        all(Part::NoText), // protocol
        all(Part::NoItems),
        since(3, Part::I32(i32::MIN)), // authorized operations
        all(Part::Tags),
    ],
    ..partitioned(Right::Group, &[])
};

pub(super) const CREATE_TOPICS: Each = Each {
    element: &[
        all(Field::Name),
        all(Field::Fixed(4 + 2)),
        all(Field::List(&[
            all(Field::Fixed(4)),
            all(Field::Numbers),
            TAGS,
        ])),
        all(Field::List(&[all(Field::Text), all(Field::Text), TAGS])),
        TAGS,
    ],
    partition: None,
    denied: &[
        all(Part::Name),
        all(Part::Error),
        all(Part::NullText),     // error message
        since(5, Part::I32(-1)), // partitions
        since(5, Part::I16(-1)), // replicas
        since(5, Part::NoItems), // configuration
        all(Part::Tags),
    ],
    ..partitioned(Right::Create, &[])
};

pub(super) const JOIN_GROUP: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::I32(-1)),                     // generation
    since(7, Part::NullText),               // protocol type
    Versioned::between(0, 6, Part::NoText), // protocol
    since(7, Part::NullText),               // the same
    all(Part::NoText),                      // leader
    since(9, Part::I8(0)),                  // skip assignment
    all(Part::NoText),                      // member
    all(Part::NoItems),                     // members
    all(Part::Tags),
];

pub(super) const SYNC_GROUP: &[Versioned<Part>] = &[
    since(1, Part::I32(0)),
    all(Part::Error),
    since(5, Part::NullText), // protocol type
    since(5, Part::NullText), // protocol
    all(Part::NoItems),       // assignment
    all(Part::Tags),
];

pub(super) const FIND_COORDINATOR: &[Versioned<Part>] = &[
    since(1, Part::I32(0)),
    all(Part::Error),
    since(1, Part::NullText), // error message
    all(Part::I32(-1)),       // node
    all(Part::NoText),        // host
    all(Part::I32(-1)),       // port
    all(Part::Tags),
];

pub(super) const HEARTBEAT: &[Versioned<Part>] =
    &[since(1, Part::I32(0)), all(Part::Error), all(Part::Tags)];

pub(super) const LEAVE_GROUP: &[Versioned<Part>] = &[
    since(1, Part::I32(0)),
    all(Part::Error),
    since(3, Part::NoItems), // members
    all(Part::Tags),
];

pub(super) const INIT_PRODUCER_ID: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::I64(-1)), // producer
    all(Part::I16(-1)), // its epoch
    all(Part::Tags),
];
