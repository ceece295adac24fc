//! The forms of requests, as far as they must be walked: a list of fields, each of some versions.

use crate::wire::{Reader, WireFault};

/// Something that messages have from one version to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Versioned<T: 'static> {
    what: T,
    since: i16,
    until: i16,
}

impl<T: Copy> Versioned<T> {
    /// In every version.
    pub(crate) const fn always(what: T) -> Self {
        Self::between(0, i16::MAX, what)
    }

    /// From a version on.
    pub(crate) const fn since(since: i16, what: T) -> Self {
        Self::between(since, i16::MAX, what)
    }

    /// In some versions, both ends included.
    pub(crate) const fn between(since: i16, until: i16, what: T) -> Self {
        Self { what, since, until }
    }

    /// What a version has.
    pub(crate) fn of(all: &[Self], version: i16) -> impl Iterator<Item = T> {
        all.iter()
            .filter(move |field| (field.since..=field.until).contains(&version))
            .map(|field| field.what)
    }
}

/// A field that is passed over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field {
    /// So many bytes.
    Fixed(usize),
    /// A string, null or not.
    Text,
    /// Bytes, null or not.
    Blob,
    /// A list of 32-bit numbers.
    Numbers,
    /// A list of structures, null or not.
    List(&'static [Versioned<Field>]),
    /// The tagged fields that end a structure.
    Tags,
    /// The name of the element.
    Name,
    /// The same where it may be null.
    NullableName,
    /// The id of the topic that the element is.
    TopicId,
    /// The group that is meant.
    Group,
    /// The transactional id, if any.
    Transaction,
    /// The broker that asks; below zero, it is none.
    Replica,
    /// A Fetch session's id and epoch.
    FetchSession,
}

/// What was come across on the way.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) name: &'a [u8],
    /// The name with its length, as it was written.
    pub(crate) name_field: &'a [u8],
    pub(crate) topic_id: &'a [u8],
    pub(crate) group: Option<&'a [u8]>,
    pub(crate) transaction: Option<&'a [u8]>,
    pub(crate) replica: Option<i32>,
    /// The position of the Fetch session's ID, and its epoch.
    pub(crate) fetch_session: Option<(usize, i32)>,
}

/// Passes over fields.
pub(crate) fn walk<'a>(
    reader: &mut Reader<'a>,
    fields: &[Versioned<Field>],
    version: i16,
    seen: &mut Seen<'a>,
) -> Result<(), WireFault> {
    for field in Versioned::of(fields, version) {
        let start = reader.at();
        match field {
            Field::Fixed(count) => drop(reader.take(count)?),
            Field::Text => drop(reader.nullable_string()?),
            Field::Blob => reader.skip_bytes()?,
            Field::Numbers => {
                for _ in 0..reader.array()? {
                    reader.i32()?;
                }
            }
            Field::List(element) => {
                for _ in 0..reader.nullable_array()?.unwrap_or_default() {
                    walk(reader, element, version, seen)?;
                }
            }
            Field::Tags => reader.skip_tags()?,
            Field::Name => {
                seen.name = reader.string()?;
                seen.name_field = reader.passed_since(start);
            }
            Field::NullableName => {
                seen.name = reader.nullable_string()?.unwrap_or_default();
                seen.name_field = reader.passed_since(start);
            }
            Field::TopicId => seen.topic_id = reader.take(16)?,
            Field::Group => seen.group = Some(reader.string()?),
            Field::Transaction => seen.transaction = reader.nullable_string()?,
            Field::Replica => seen.replica = Some(reader.i32()?),
            Field::FetchSession => {
                reader.i32()?;
                seen.fetch_session = Some((start, reader.i32()?));
            }
        }
    }
    Ok(())
}
