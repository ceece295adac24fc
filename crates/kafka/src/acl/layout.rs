//! The forms of messages, as far as they must be walked: a list of fields, each of some versions.

use crate::wire::{Reader, WireFault};

/// Something that messages have from one version to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Versioned<T: 'static> {
    what: T,
    since: i16,
    until: i16,
}

impl<T: Copy> Versioned<T> {
    /// In every version.
    pub(super) const fn always(what: T) -> Self {
        Self::between(0, i16::MAX, what)
    }

    /// From a version on.
    pub(super) const fn since(since: i16, what: T) -> Self {
        Self::between(since, i16::MAX, what)
    }

    /// In some versions, both ends included.
    pub(super) const fn between(since: i16, until: i16, what: T) -> Self {
        Self { what, since, until }
    }

    /// What a version has.
    pub(super) fn of(all: &[Self], version: i16) -> impl Iterator<Item = T> {
        all.iter()
            .filter(move |field| (field.since..=field.until).contains(&version))
            .map(|field| field.what)
    }
}

/// A field that is passed over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    /// So many bytes.
    Fixed(usize),
    /// A string, null or not.
    Text,
    /// Bytes, null or not.
    Blob,
    /// A list of 32-bit numbers.
    Numbers,
    /// A list of structures.
    List(&'static [Versioned<Field>]),
    /// The tagged fields that end a structure.
    Tags,
    /// The name of the element.
    Name,
    /// The group that is meant.
    Group,
    /// The transactional id, if any.
    Transaction,
    /// A Fetch session's id and epoch.
    FetchSession,
}

/// What was come across on the way.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) name: &'a [u8],
    pub(super) group: Option<&'a [u8]>,
    pub(super) transaction: Option<&'a [u8]>,
    /// Where the Fetch session stands, and its epoch.
    pub(super) fetch_session: Option<(usize, i32)>,
}

/// Passes over fields.
pub(super) fn walk<'a>(
    reader: &mut Reader<'a>,
    fields: &[Versioned<Field>],
    version: i16,
    seen: &mut Seen<'a>,
) -> Result<(), WireFault> {
    for field in Versioned::of(fields, version) {
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
                for _ in 0..reader.array()? {
                    walk(reader, element, version, seen)?;
                }
            }
            Field::Tags => reader.skip_tags()?,
            Field::Name => seen.name = reader.string()?,
            Field::Group => seen.group = Some(reader.string()?),
            Field::Transaction => seen.transaction = reader.nullable_string()?,
            Field::FetchSession => {
                let at = reader.at();
                reader.i32()?;
                seen.fetch_session = Some((at, reader.i32()?));
            }
        }
    }
    Ok(())
}
