//! Faults of a site file: what is wrong, where, and what to write instead.

use std::{fmt, sync::Arc};

use miette::{
    Diagnostic, LabeledSpan, MietteError, MietteSpanContents, NamedSource, SourceCode, SourceSpan,
    SpanContents,
};
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
    source: NamedSource<IndexedText>,
    faults: Vec<Fault>,
}

impl Faults {
    /// No faults yet in the file of this name and text.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self {
            source: NamedSource::new(&*name, IndexedText::new(text.into())),
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

/// A text that knows where its lines start. Miette alone reads a text from its first byte for each
/// place that it shows, which takes a time that grows with the square of the number of faults.
#[derive(Debug, Clone)]
struct IndexedText {
    text: Arc<str>,
    /// Offsets of the first bytes of lines.
    lines: Arc<[usize]>,
}

impl IndexedText {
    fn new(text: Arc<str>) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Self { text, lines }
    }
}

impl SourceCode for IndexedText {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let line = self.lines.partition_point(|start| *start <= span.offset());
        // The line of the span is `line - 1`. One more than is shown: only its end is read.
        let first = line.saturating_sub(before + 2);
        let start = self.lines.get(first).copied().unwrap_or_default();
        let rest = self.text.get(start..).ok_or(MietteError::OutOfBounds)?;
        let there = (span.offset() - start, span.len()).into();
        let found = rest.read_span(&there, before, after)?;
        let (at, length) = (start + found.span().offset(), found.span().len());
        let shown = self.text.as_bytes().get(at..at + length);
        let shown = shown.ok_or(MietteError::OutOfBounds)?;
        Ok(Box::new(MietteSpanContents::new(
            shown,
            (at, length).into(),
            first + found.line(),
            found.column(),
            first + found.line_count(),
        )))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_place_is_shown_as_miette_alone_would_show_it() {
        let text = "site: a\n\n  b: [\u{e9}, 1]\r\nc:\n    d: e\n# end\nf: g";
        let indexed = IndexedText::new(text.into());
        for (before, after) in [(0, 0), (1, 1), (2, 0), (0, 3)] {
            for offset in 0..=text.len() {
                for length in 0..=text.len() - offset {
                    let span = (offset, length).into();
                    let wanted = text.read_span(&span, before, after).unwrap();
                    let got = indexed.read_span(&span, before, after).unwrap();
                    let all = |it: &dyn SpanContents<'_>| {
                        let place = (it.line(), it.column(), it.line_count());
                        (*it.span(), it.data().to_vec(), place)
                    };
                    assert_eq!(all(&*got), all(&*wanted), "{offset}+{length}");
                }
            }
        }
    }
}
