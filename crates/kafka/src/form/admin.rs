//! Requests about the cluster: rights, configuration, accounts, nodes.

use super::{
    LIST, List, TAGS, all, between,
    layout::{Field, Versioned},
    since,
    writer::Part,
};

/// An answer that is a throttle time and an error code.
pub(super) const THROTTLED: &[Versioned<Part>] =
    &[all(Part::I32(0)), all(Part::Error), all(Part::Tags)];

/// The same with an error message.
pub(super) const EXPLAINED: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::NullText),
    all(Part::Tags),
];

/// The same with a list behind it.
pub(super) const EXPLAINED_LIST: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::NullText),
    all(Part::NoItems),
    all(Part::Tags),
];

/// A throttle time, an error code and a list.
pub(super) const THROTTLED_LIST: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::NoItems),
    all(Part::Tags),
];

/// An error code and a list.
pub(super) const ERROR_LIST: &[Versioned<Part>] =
    &[all(Part::Error), all(Part::NoItems), all(Part::Tags)];

/// An error code alone.
pub(super) const ERROR: &[Versioned<Part>] = &[all(Part::Error), all(Part::Tags)];

pub(super) const API_VERSIONS: &[Versioned<Part>] = &[
    all(Part::Error),
    all(Part::NoItems),
    since(1, Part::I32(0)),
    all(Part::Tags),
];

pub(super) const INIT_PRODUCER_ID: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::I64(-1)),      // producer
    all(Part::I16(-1)),      // its epoch
    since(6, Part::I64(-1)), // that of a transaction under way
    since(6, Part::I16(-1)), // its epoch
    all(Part::Tags),
];

pub(super) const END_TXN: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    since(5, Part::I64(-1)), // producer
    since(5, Part::I16(-1)), // its epoch
    all(Part::Tags),
];

pub(super) const DESCRIBE_LOG_DIRS: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    since(3, Part::Error),
    all(Part::NoItems),
    all(Part::Tags),
];

pub(super) const SASL_AUTHENTICATE: &[Versioned<Part>] = &[
    all(Part::Error),
    all(Part::NullText),
    all(Part::NoItems),     // token
    since(1, Part::I64(0)), // lifetime
    all(Part::Tags),
];

pub(super) const CREATE_DELEGATION_TOKEN: &[Versioned<Part>] = &[
    all(Part::Error),
    all(Part::NoText), // owner's type
    all(Part::NoText), // owner
    since(3, Part::NoText),
    since(3, Part::NoText),
    all(Part::I64(-1)), // issued
    all(Part::I64(-1)), // ends
    all(Part::I64(-1)), // ends at the latest
    all(Part::NoText),  // token
    all(Part::NoItems), // its code
    all(Part::I32(0)),
    all(Part::Tags),
];

pub(super) const DELEGATION_TOKEN_UNTIL: &[Versioned<Part>] = &[
    all(Part::Error),
    all(Part::I64(-1)),
    all(Part::I32(0)),
    all(Part::Tags),
];

pub(super) const DESCRIBE_DELEGATION_TOKEN: &[Versioned<Part>] = &[
    all(Part::Error),
    all(Part::NoItems),
    all(Part::I32(0)),
    all(Part::Tags),
];

pub(super) const ALTER_REASSIGNMENTS: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    since(1, Part::I8(1)), // other numbers of replicas are allowed
    all(Part::Error),
    all(Part::NullText),
    all(Part::NoItems),
    all(Part::Tags),
];

pub(super) const DESCRIBE_QUORUM: &[Versioned<Part>] = &[
    all(Part::Error),
    since(2, Part::NullText),
    all(Part::NoItems),
    since(2, Part::NoItems), // nodes
    all(Part::Tags),
];

pub(super) const UPDATE_FEATURES: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::NullText),
    between(0, 1, Part::NoItems),
    all(Part::Tags),
];

pub(super) const ENVELOPE: &[Versioned<Part>] =
    &[all(Part::NullText), all(Part::Error), all(Part::Tags)];

pub(super) const DESCRIBE_CLUSTER: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::NullText),
    since(1, Part::I8(1)), // of brokers
    all(Part::NoText),     // cluster
    all(Part::I32(-1)),    // controller
    all(Part::NoItems),
    all(Part::I32(i32::MIN)), // authorized operations
    all(Part::Tags),
];

pub(super) const BROKER_REGISTRATION: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::I64(-1)), // epoch
    all(Part::Tags),
];

pub(super) const BROKER_HEARTBEAT: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::I8(0)), // caught up
    all(Part::I8(1)), // fenced
    all(Part::I8(0)), // to shut down
    all(Part::Tags),
];

pub(super) const LIST_TRANSACTIONS: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::NoItems), // unknown states
    all(Part::NoItems),
    all(Part::Tags),
];

pub(super) const ALLOCATE_PRODUCER_IDS: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::I64(-1)),
    all(Part::I32(0)),
    all(Part::Tags),
];

pub(super) const TELEMETRY_SUBSCRIPTIONS: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::NoTopicId), // client instance, an id of the same form
    all(Part::I32(0)),
    all(Part::NoItems), // compression types
    all(Part::I32(0)),  // interval
    all(Part::I32(0)),  // most bytes
    all(Part::I8(0)),   // as differences
    all(Part::NoItems), // metrics
    all(Part::Tags),
];

pub(super) const SHARE_FETCH: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::NullText),
    since(1, Part::I32(0)), // lock timeout
    all(Part::NoItems),
    all(Part::NoItems), // brokers
    all(Part::Tags),
];

pub(super) const SHARE_ACKNOWLEDGE: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::NullText),
    since(2, Part::I32(0)), // lock timeout
    all(Part::NoItems),
    all(Part::NoItems), // brokers
    all(Part::Tags),
];

const EXPLAINED_ELEMENT: &[Versioned<Part>] =
    &[all(Part::Error), all(Part::NullText), all(Part::Tags)];

/// An element that is answered by an error code and a message.
const fn explained(rest: &'static [Versioned<Field>]) -> List {
    List {
        id: &[],
        rest,
        refused: EXPLAINED_ELEMENT,
        ..LIST
    }
}

pub(super) const CREATE_ACLS: List = explained(&[
    all(Field::Fixed(1)),
    all(Field::Text),
    since(1, Field::Fixed(1)),
    all(Field::Text),
    all(Field::Text),
    all(Field::Fixed(1 + 1)),
    TAGS,
]);

pub(super) const DELETE_ACLS: List = List {
    refused: &[
        all(Part::Error),
        all(Part::NullText),
        all(Part::NoItems),
        all(Part::Tags),
    ],
    ..CREATE_ACLS
};

const RESOURCE: &[Versioned<Field>] = &[all(Field::Fixed(1)), all(Field::Text)];

/// A resource by its type and its name, and how it is to be configured.
const fn configured(
    rest: &'static [Versioned<Field>],
    refused: &'static [Versioned<Part>],
) -> List {
    List {
        id: RESOURCE,
        rest,
        refused,
        ..LIST
    }
}

pub(super) const DESCRIBE_CONFIGS: List = configured(
    &[all(Field::List(&[all(Field::Text)])), TAGS],
    &[
        all(Part::Error),
        all(Part::NullText),
        all(Part::Id),
        all(Part::NoItems),
        all(Part::Tags),
    ],
);

const CONFIGS_REFUSED: &[Versioned<Part>] = &[
    all(Part::Error),
    all(Part::NullText),
    all(Part::Id),
    all(Part::Tags),
];

pub(super) const ALTER_CONFIGS: List = configured(
    &[
        all(Field::List(&[all(Field::Text), all(Field::Text), TAGS])),
        TAGS,
    ],
    CONFIGS_REFUSED,
);

pub(super) const INCREMENTAL_ALTER_CONFIGS: List = configured(
    &[
        all(Field::List(&[
            all(Field::Text),
            all(Field::Fixed(1)),
            all(Field::Text),
            TAGS,
        ])),
        TAGS,
    ],
    CONFIGS_REFUSED,
);

pub(super) const ALTER_CLIENT_QUOTAS: List = List {
    id: &[all(Field::List(&[
        all(Field::Text),
        all(Field::Text),
        TAGS,
    ]))],
    rest: &[
        all(Field::List(&[
            all(Field::Text),
            all(Field::Fixed(8 + 1)),
            TAGS,
        ])),
        TAGS,
    ],
    refused: CONFIGS_REFUSED,
    ..LIST
};

const SCRAM_REFUSED: &[Versioned<Part>] = &[
    all(Part::Name),
    all(Part::Error),
    all(Part::NullText),
    all(Part::Tags),
];

/// Accounts to be deleted, then those to be set.
pub(super) const ALTER_SCRAM_CREDENTIALS: List = List {
    rest: &[all(Field::Fixed(1)), TAGS],
    then: Some(&List {
        rest: &[
            all(Field::Fixed(1 + 4)),
            all(Field::Blob),
            all(Field::Blob),
            TAGS,
        ],
        refused: SCRAM_REFUSED,
        ..LIST
    }),
    refused: SCRAM_REFUSED,
    ..LIST
};
