//! Faults of a site file: what is wrong, where, and what to write instead.

use std::{fmt, sync::Arc};

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

use crate::Place;

/// One thing that is wrong with a site file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The place of the fault in the file.
    pub place: Place,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl Diagnostic for Fault {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.hint.is_empty()).then(|| Box::new(&self.hint) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(None, (self.place.offset, self.place.length));
        Some(Box::new(std::iter::once(label)))
    }
}

/// All faults of one site file, in the order of the text.
///
/// As a [`Diagnostic`] it is its only fault, or a heading with each fault as a related diagnostic
/// over the file's text; as [`Serialize`] it is a list of `{file, line, column, message, hint}`.
#[derive(Clone)]
pub struct Faults {
    name: Arc<str>,
    source: NamedSource<Arc<str>>,
    faults: Vec<Fault>,
}

impl Faults {
    /// No faults yet in the file of this name and text.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self {
            source: NamedSource::new(&*name, text.into()),
            name,
            faults: Vec::new(),
        }
    }

    /// Adds a fault, after those that stand before it in the text.
    pub fn push(&mut self, place: Place, message: impl Into<String>, hint: impl Into<String>) {
        let fault = Fault {
            place,
            message: message.into(),
            hint: hint.into(),
        };
        let at = self
            .faults
            .partition_point(|other| other.place.offset <= place.offset);
        self.faults.insert(at, fault);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// How many things are wrong.
    pub fn len(&self) -> usize {
        self.faults.len()
    }

    /// The faults in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        &self.name
    }

    /// One line per fault, `FILE:LINE:COLUMN: MESSAGE (HINT)`, for logs.
    pub fn to_lines(&self) -> String {
        let line = |fault: &Fault| {
            let Place { line, column, .. } = fault.place;
            let hint = match fault.hint.as_str() {
                "" => String::new(),
                hint => format!(" ({hint})"),
            };
            format!("{}:{line}:{column}: {}{hint}", self.name, fault.message)
        };
        self.faults.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn only(&self) -> Option<&Fault> {
        match self.faults.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// `value`, unless something is wrong.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [only] => write!(f, "{only}"),
            several => write!(f, "{} has {} faults", self.name, several.len()),
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_lines())
    }
}

impl std::error::Error for Faults {}

impl Diagnostic for Faults {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.only()?.help()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.only()?.labels()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let several = self.faults.len() > 1;
        several.then(|| {
            let each = self.iter().map(|fault| -> &dyn Diagnostic { fault });
            Box::new(each) as Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>
        })
    }
}

impl Serialize for Faults {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Row<'a> {
            file: &'a str,
            line: usize,
            column: usize,
            message: &'a str,
            hint: &'a str,
        }
        to.collect_seq(self.iter().map(|fault| Row {
            file: &self.name,
            line: fault.place.line,
            column: fault.place.column,
            message: &fault.message,
            hint: &fault.hint,
        }))
    }
}
