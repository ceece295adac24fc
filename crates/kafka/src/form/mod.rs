//! The forms of requests and of the answers that say no, from the protocol's message definitions.
//!
//! Every request of every version of the definitions has an answer with an error in it. Most say
//! it once, and nothing of the request has to be read for it. The rest have an error for each
//! topic, partition, group or other thing that the request names.

mod admin;
pub(crate) mod groups;
pub(crate) mod layout;
mod list;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod topics;
pub(crate) mod writer;

use bytes::Bytes;

use self::{
    layout::{Field, Versioned},
    writer::{Part, Values, Writer},
};
use crate::{api::Api, request, wire::WireFault};

pub(crate) use list::List;

/// `UNSUPPORTED_VERSION` of the protocol's error codes.
pub(crate) const UNSUPPORTED_VERSION: i16 = 35;

/// How an answer says no.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// A structure that appears once.
    Whole(&'static [Versioned<Part>]),
    /// For each element of a list.
    Each(&'static List),
}

impl Form {
    /// That of a version of a request, if the message definitions have it.
    pub(crate) fn find(api: &Api, version: i16) -> Option<Self> {
        let forms = table::forms(api.key).filter(|_| api.is_known(version))?;
        Versioned::of(forms, version).next()
    }

    /// Whether the answer depends on what is in the request.
    pub(crate) fn needs_request(self) -> bool {
        matches!(self, Self::Each(_))
    }

    /// The answer to a request of which nothing is done. `content` is the request without the
    /// frame's length; it is not looked at where the answer does not depend on it.
    pub(crate) fn refuse(
        self,
        (api, version, correlation): (&Api, i16, i32),
        content: &[u8],
        error: i16,
    ) -> Result<Bytes, WireFault> {
        let mut answer = Writer::framed(api, version, correlation);
        match self {
            Self::Whole(parts) => {
                let values = Values {
                    error,
                    ..Values::default()
                };
                answer.parts(parts, values)?;
                answer.frame()
            }
            Self::Each(list) => {
                let body = request::body(content, api.is_flexible(version))?;
                list.refuse(body, answer, error)
            }
        }
    }
}

const fn all<T: Copy>(what: T) -> Versioned<T> {
    Versioned::always(what)
}

const fn since<T: Copy>(version: i16, what: T) -> Versioned<T> {
    Versioned::since(version, what)
}

const fn between<T: Copy>(first: i16, last: i16, what: T) -> Versioned<T> {
    Versioned::between(first, last, what)
}

const TAGS: Versioned<Field> = all(Field::Tags);
const NAME: &[Versioned<Field>] = &[all(Field::Name)];
const ONLY_TAGS: &[Versioned<Part>] = &[all(Part::Tags)];
const THROTTLE: &[Versioned<Part>] = &[all(Part::I32(0))];

/// A list of elements that are a name and what follows it; the answer begins with a throttle time.
const LIST: List = List {
    before: &[],
    nullable: false,
    outer: None,
    id: NAME,
    partition: None,
    rest: &[TAGS],
    then: None,
    answer_before: THROTTLE,
    answer_after: ONLY_TAGS,
    refused: &[],
};
