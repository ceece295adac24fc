//! The answers that show what a caller may not see, from the protocol's message definitions.

use super::rule::Shown;
use crate::form::layout::{Field, Versioned};

const fn all(what: Field) -> Versioned<Field> {
    Versioned::always(what)
}

const fn since(version: i16, what: Field) -> Versioned<Field> {
    Versioned::since(version, what)
}

const TAGS: Versioned<Field> = all(Field::Tags);

pub(super) const OFFSET_FETCH: Shown = Shown {
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
};

pub(super) const METADATA: Shown = Shown {
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
};
