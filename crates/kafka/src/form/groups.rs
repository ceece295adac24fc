//! Requests about groups and the offsets that they keep.

use super::{
    LIST, List, NAME, TAGS, all, between,
    layout::{Field, Versioned},
    since,
    topics::NUMBERS,
    writer::{NULL, Part},
};

pub(crate) const OFFSET_COMMIT: List = List {
    before: &[
        all(Field::Group),
        since(1, Field::Fixed(4)), // generation
        since(1, Field::Text),     // member
        since(7, Field::Text),
        between(2, 4, Field::Fixed(8)), // retention
    ],
    id: &[between(0, 9, Field::Name), since(10, Field::TopicId)],
    partition: Some(&[
        all(Field::Fixed(4 + 8)),
        since(6, Field::Fixed(4)),      // leader epoch
        between(1, 1, Field::Fixed(8)), // time
        all(Field::Text),
        TAGS,
    ]),
    answer_before: &[since(3, Part::I32(0))],
    refused: &[all(Part::Index), all(Part::Error), all(Part::Tags)],
    ..LIST
};

pub(super) const TXN_OFFSET_COMMIT: List = List {
    before: &[
        all(Field::Text),
        all(Field::Text),
        all(Field::Fixed(8 + 2)),  // producer and its epoch
        since(3, Field::Fixed(4)), // generation
        since(3, Field::Text),     // member
        since(3, Field::Text),
    ],
    id: &[between(0, 5, Field::Name), since(6, Field::TopicId)],
    partition: Some(&[
        all(Field::Fixed(4 + 8)),
        since(2, Field::Fixed(4)), // leader epoch
        all(Field::Text),
        TAGS,
    ]),
    refused: &[all(Part::Index), all(Part::Error), all(Part::Tags)],
    ..LIST
};

/// Of one group.
pub(crate) const OFFSET_FETCH: List = List {
    before: &[all(Field::Group)],
    nullable: true,
    partition: Some(NUMBERS),
    answer_before: &[since(3, Part::I32(0))],
    answer_after: &[since(2, Part::Top), all(Part::Tags)],
    refused: &[
        all(Part::Index),
        all(Part::I64(-1)),      // offset
        since(5, Part::I32(-1)), // leader epoch
        all(Part::NoText),       // metadata
        all(Part::Error),
        all(Part::Tags),
    ],
    ..LIST
};

/// The whole answer to the same, should the group be denied.
pub(crate) const OFFSET_FETCH_GROUP_DENIED: &[Versioned<Part>] = &[
    since(3, Part::I32(0)),
    all(Part::NoItems),
    all(Part::Error),
    all(Part::Tags),
];

/// Of several groups.
pub(super) const OFFSET_FETCH_GROUPS: List = List {
    rest: &[
        since(9, Field::Text),     // member
        since(9, Field::Fixed(4)), // its epoch
        all(Field::List(&[
            between(8, 9, Field::Text),
            since(10, Field::Fixed(16)),
            all(Field::Numbers),
            TAGS,
        ])),
        TAGS,
    ],
    refused: &[
        all(Part::Id),
        all(Part::NoItems),
        all(Part::Error),
        all(Part::Tags),
    ],
    ..LIST
};

/// A list of names alone.
const NAMES: List = List { rest: &[], ..LIST };

pub(super) const FIND_COORDINATORS: List = List {
    before: &[all(Field::Fixed(1))],
    refused: &[
        all(Part::Id),
        all(Part::I32(-1)), // node
        all(Part::NoText),  // host
        all(Part::I32(-1)), // port
        all(Part::Error),
        all(Part::NullText),
        all(Part::Tags),
    ],
    ..NAMES
};

pub(crate) const DESCRIBE_GROUPS: List = List {
    answer_before: &[since(1, Part::I32(0))],
    refused: &[
        all(Part::Error),
        since(6, Part::NullText), // error message
        all(Part::Name),
        all(Part::NoText), // state
        all(Part::NoText), // protocol type
        all(Part::NoText), // protocol
        all(Part::NoItems),
        since(3, Part::I32(i32::MIN)), // authorized operations
        all(Part::Tags),
    ],
    ..NAMES
};

pub(super) const DELETE_GROUPS: List = List {
    refused: &[
        all(Part::Id),
        all(Part::Error),
        since(3, Part::NullText),
        all(Part::Tags),
    ],
    ..NAMES
};

pub(super) const DESCRIBE_NEW_GROUPS: List = List {
    refused: &[
        all(Part::Error),
        all(Part::NullText),
        all(Part::Id),
        all(Part::NoText), // state
        all(Part::I32(0)), // epoch
        all(Part::I32(0)), // assignment epoch
        all(Part::NoText), // assignor
        all(Part::NoItems),
        all(Part::I32(i32::MIN)), // authorized operations
        all(Part::Tags),
    ],
    ..NAMES
};

pub(super) const DESCRIBE_STREAMS_GROUPS: List = List {
    refused: &[
        all(Part::Error),
        all(Part::NullText),
        all(Part::Id),
        all(Part::NoText), // state
        all(Part::I32(0)), // epoch
        all(Part::I32(0)), // assignment epoch
        all(NULL),         // topology
        all(Part::NoItems),
        all(Part::I32(i32::MIN)), // authorized operations
        since(1, NULL),           // topology's description
        since(1, Part::I8(0)),    // and its status
        since(1, Part::NullText), // assignor
        all(Part::Tags),
    ],
    ..NAMES
};

pub(super) const DESCRIBE_SHARE_OFFSETS: List = List {
    rest: &[
        all(Field::List(&[all(Field::Text), all(Field::Numbers), TAGS])),
        TAGS,
    ],
    refused: &[
        all(Part::Id),
        all(Part::NoItems),
        all(Part::Error),
        all(Part::NullText),
        all(Part::Tags),
    ],
    ..LIST
};

pub(super) const DESCRIBE_TRANSACTIONS: List = List {
    id: NAME,
    refused: &[
        all(Part::Error),
        all(Part::Id),
        all(Part::NoText),  // state
        all(Part::I32(0)),  // timeout
        all(Part::I64(-1)), // start
        all(Part::I64(-1)), // producer
        all(Part::I16(-1)), // and its epoch
        all(Part::NoItems),
        all(Part::Tags),
    ],
    ..NAMES
};

pub(super) const FIND_COORDINATOR: &[Versioned<Part>] = &[
    since(1, Part::I32(0)),
    all(Part::Error),
    since(1, Part::NullText), // error message
    all(Part::I32(-1)),       // node
    all(Part::NoText),        // host
    all(Part::I32(-1)),       // port
    all(Part::Tags),
];

pub(super) const JOIN_GROUP: &[Versioned<Part>] = &[
    since(2, Part::I32(0)),
    all(Part::Error),
    all(Part::I32(-1)),          // generation
    since(7, Part::NullText),    // protocol type
    between(0, 6, Part::NoText), // protocol
    since(7, Part::NullText),    // the same
    all(Part::NoText),           // leader
    since(9, Part::I8(0)),       // skip assignment
    all(Part::NoText),           // member
    all(Part::NoItems),          // members
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

pub(super) const SYNC_GROUP: &[Versioned<Part>] = &[
    since(1, Part::I32(0)),
    all(Part::Error),
    since(5, Part::NullText), // protocol type
    since(5, Part::NullText), // protocol
    all(Part::NoItems),       // assignment
    all(Part::Tags),
];

pub(super) const LIST_GROUPS: &[Versioned<Part>] = &[
    since(1, Part::I32(0)),
    all(Part::Error),
    all(Part::NoItems),
    all(Part::Tags),
];

pub(super) const OFFSET_DELETE: &[Versioned<Part>] =
    &[all(Part::Error), all(Part::I32(0)), all(Part::NoItems)];

/// Of consumer groups and of share groups.
pub(super) const GROUP_HEARTBEAT: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::NullText), // error message
    all(Part::NullText), // member
    all(Part::I32(0)),   // its epoch
    all(Part::I32(0)),   // heartbeat interval
    all(NULL),           // assignment
    all(Part::Tags),
];

pub(super) const STREAMS_HEARTBEAT: &[Versioned<Part>] = &[
    all(Part::I32(0)),
    all(Part::Error),
    all(Part::NullText),         // error message
    all(Part::NoText),           // member
    all(Part::I32(0)),           // its epoch
    all(Part::I32(0)),           // heartbeat interval
    between(0, 0, Part::I32(0)), // acceptable lag
    all(Part::I32(0)),           // interval of offsets
    since(1, Part::I64(-1)),     // acceptable lag
    all(Part::NoItems),          // status
    all(Part::NoItems),          // active tasks
    all(Part::NoItems),          // standby tasks
    all(Part::NoItems),          // warm-up tasks
    since(1, Part::I8(0)),       // topology wanted
    all(Part::I32(0)),           // endpoints' epoch
    all(Part::NoItems),          // endpoints
    all(Part::Tags),
];
