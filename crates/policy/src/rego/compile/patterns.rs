//! Arguments of built-in functions that must be known when the policy is read.

use super::{Compiler, Fault, refuse, terms::Typed};
use crate::rego::{
    builtins::{self, Builtin, Special},
    syntax::Place,
    types::{Kind, Type},
};

impl Compiler<'_> {
    pub(super) fn check_special(
        &mut self,
        place: Place,
        builtin: &Builtin,
        arguments: &[Typed],
    ) -> Result<(), Fault> {
        let Some((_, first)) = arguments.first() else {
            return Ok(());
        };
        let name = builtin.name;
        match builtin.special {
            Special::None => Ok(()),
            Special::Moment => moment(place, name, first),
            Special::Regex => self.regex(place, name, first),
            Special::Glob => self.glob(place, name, arguments),
            Special::Network => networks(place, name, first),
            Special::Timestamp => timestamps(place, name, first),
            Special::Format => formats(place, name, arguments),
        }
    }

    fn regex(&mut self, place: Place, name: &str, of: &Type) -> Result<(), Fault> {
        for pattern in known(place, name, "pattern", of)? {
            let added = self.patterns.add_regex(&pattern);
            added.or_else(|message| refuse(place, message))?;
        }
        Ok(())
    }

    fn glob(&mut self, place: Place, name: &str, arguments: &[Typed]) -> Result<(), Fault> {
        let delimiters = arguments.get(1).and_then(|(value, _)| value.constant());
        let (Some((_, of)), Some(delimiters)) = (arguments.first(), delimiters.cloned()) else {
            return refuse(place, "the delimiters of a glob are constants here");
        };
        for pattern in known(place, name, "pattern", of)? {
            let added = self.patterns.add_glob(&pattern, &delimiters);
            added.or_else(|message| refuse(place, message))?;
        }
        Ok(())
    }
}

fn networks(place: Place, name: &str, of: &Type) -> Result<(), Fault> {
    for network in known(place, name, "network", of)? {
        if builtins::network(&network).is_none() {
            let message = format!("{network} is no network such as 192.0.2.0/24");
            return refuse(place, message);
        }
    }
    Ok(())
}

fn timestamps(place: Place, name: &str, of: &Type) -> Result<(), Fault> {
    for time in known(place, name, "time", of)? {
        if builtins::timestamp(&time).is_none() {
            let message = format!("{time} is no time such as 2026-11-30T09:00:00Z");
            return refuse(place, message);
        }
    }
    Ok(())
}

fn formats(place: Place, name: &str, arguments: &[Typed]) -> Result<(), Fault> {
    let count = arguments.get(1).and_then(|(_, of)| length(of));
    let (Some((_, of)), Some(count)) = (arguments.first(), count) else {
        return refuse(place, "sprintf takes its arguments as `[one, two]` here");
    };
    for format in known(place, name, "format", of)? {
        match builtins::directives(&format) {
            Ok(wanted) if wanted == count => {}
            Ok(wanted) => {
                let message = format!("the format takes {wanted} arguments, not {count}");
                return refuse(place, message);
            }
            Err(message) => return refuse(place, message),
        }
    }
    Ok(())
}

/// All strings that an argument can be.
fn known(
    place: Place,
    name: &str,
    what: &str,
    of: &Type,
) -> Result<Vec<std::sync::Arc<str>>, Fault> {
    match of.strings() {
        Some(texts) => Ok(texts.to_vec()),
        None => refuse(
            place,
            format!(
                "the {what} of {name} must be a constant, or come from a collection of constants, \
                 so that it is checked when the policy is read"
            ),
        ),
    }
}

/// The length of an array, if it is known.
fn length(of: &Type) -> Option<usize> {
    match of {
        Type::OneOf(kinds) => match kinds.as_slice() {
            [Kind::Array(fixed, None)] => Some(fixed.len()),
            _ => None,
        },
        Type::Any => None,
    }
}

/// A number of nanoseconds, alone or with UTC as its zone.
fn moment(place: Place, name: &str, of: &Type) -> Result<(), Fault> {
    let utc = |zone: &Type| match zone.strings() {
        Some(zones) => zones.iter().all(|zone| matches!(&**zone, "" | "UTC")),
        None => false,
    };
    let fits = |kind: &Kind| match kind {
        Kind::Array(parts, None) => match parts.as_slice() {
            [number] => *number == Type::number(),
            [number, zone] => *number == Type::number() && utc(zone),
            _ => false,
        },
        Kind::Array(..) => false,
        // Of other types only numbers have a value.
        _ => true,
    };
    match of {
        Type::OneOf(kinds) if kinds.iter().all(fits) => Ok(()),
        _ => refuse(
            place,
            format!("{name} takes nanoseconds here, or `[nanoseconds, \"UTC\"]`"),
        ),
    }
}
