//! Regular expressions and globs, compiled when the policy is read.
//!
//! OPA takes Go's syntax of regular expressions. What Go and the `regex` crate read alike is
//! taken, the classes `\d`, `\w`, `\s` and `\b` in Go's meaning of ASCII; the rest is refused.

use std::{collections::BTreeMap, sync::Arc};

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{
    AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSet, ClassSetItem, Flag, FlagsItemKind,
    GroupKind, Literal, LiteralKind, RepetitionKind, RepetitionRange, Span, SpecialLiteralKind,
    parse::ParserBuilder,
};

use super::value::Value;

/// Bytes of the text of a pattern.
const MAX_TEXT: usize = 1000;
/// Places in a pattern at which a match can be, with repetitions written out.
const MAX_PLACES: usize = 2000;
/// Memory of a compiled pattern.
const MAX_COMPILED: usize = 1 << 20;
/// Memory of the states that matching makes on the way.
const MAX_STATES: usize = 1 << 18;

/// All patterns of a module.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    regexes: BTreeMap<Arc<str>, Pattern>,
    globs: BTreeMap<Arc<str>, Vec<(Value, Pattern)>>,
}

#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    places: usize,
}

impl Pattern {
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// What a match on so many bytes may take.
    pub(super) fn cost(&self, bytes: usize) -> usize {
        2 + bytes.saturating_mul(self.places + 8) / 64
    }

    fn new(text: &str, places: usize, fold: bool) -> Result<Self, String> {
        if places > MAX_PLACES {
            return Err(format!("the pattern has more than {MAX_PLACES} places"));
        }
        let regex = RegexBuilder::new(text)
            .case_insensitive(fold)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_STATES)
            .build()
            .map_err(|_| "the pattern is too large".to_owned())?;
        Ok(Self { regex, places })
    }
}

impl Patterns {
    pub(super) fn regex(&self, pattern: &str) -> Option<&Pattern> {
        self.regexes.get(pattern)
    }

    pub(super) fn glob(&self, pattern: &str, delimiters: &Value) -> Option<&Pattern> {
        let own = self.globs.get(pattern)?.iter();
        let mut own = own.filter(|(with, _)| with == delimiters);
        own.next().map(|(_, pattern)| pattern)
    }

    pub(super) fn add_regex(&mut self, pattern: &Arc<str>) -> Result<(), String> {
        if !self.regexes.contains_key(pattern) {
            let compiled = regex(pattern)?;
            self.regexes.insert(Arc::clone(pattern), compiled);
        }
        Ok(())
    }

    pub(super) fn add_glob(
        &mut self,
        pattern: &Arc<str>,
        delimiters: &Value,
    ) -> Result<(), String> {
        if self.glob(pattern, delimiters).is_none() {
            let compiled = glob(pattern, delimiters)?;
            let own = self.globs.entry(Arc::clone(pattern)).or_default();
            own.push((delimiters.clone(), compiled));
        }
        Ok(())
    }
}

fn regex(pattern: &str) -> Result<Pattern, String> {
    if pattern.len() > MAX_TEXT {
        return Err(format!("a pattern has at most {MAX_TEXT} bytes"));
    }
    let parsed = ParserBuilder::new().nest_limit(32).build().parse(pattern);
    let ast = parsed.map_err(|error| format!("no regular expression: {}", error.kind()))?;
    let mut reader = Reader {
        pattern,
        changes: Vec::new(),
        fold: false,
    };
    let places = reader.whole(&ast)?;
    if reader.fold && !pattern.is_ascii() {
        return Err("(?i) is for patterns of ASCII here".to_owned());
    }
    let fold = reader.fold;
    let text = reader.changed();
    Pattern::new(&text, places, fold)
}

/// Looks at each node, and notes what must be written otherwise.
struct Reader<'p> {
    pattern: &'p str,
    changes: Vec<(Span, &'static str)>,
    fold: bool,
}

impl Reader<'_> {
    fn source(&self, span: &Span) -> &str {
        self.pattern
            .get(span.start.offset..span.end.offset)
            .unwrap_or_default()
    }

    fn refuse<T>(&self, span: &Span) -> Result<T, String> {
        Err(format!(
            "`{}` in a regular expression is not available here: Go may read it otherwise",
            self.source(span)
        ))
    }

    fn changed(&self) -> String {
        let (mut text, mut at) = (String::new(), 0);
        for (span, by) in &self.changes {
            text.push_str(self.pattern.get(at..span.start.offset).unwrap_or_default());
            text.push_str(by);
            at = span.end.offset;
        }
        text.push_str(self.pattern.get(at..).unwrap_or_default());
        text
    }

    /// `(?i)` may be at the start alone.
    fn whole(&mut self, ast: &Ast) -> Result<usize, String> {
        let parts = match ast {
            Ast::Concat(concat) => concat.asts.as_slice(),
            other => std::slice::from_ref(other),
        };
        let rest = match parts {
            [Ast::Flags(flags), rest @ ..] => {
                match flags.flags.items.as_slice() {
                    [item] if item.kind == FlagsItemKind::Flag(Flag::CaseInsensitive) => {}
                    _ => return self.refuse(&flags.span),
                }
                self.fold = true;
                self.changes.push((flags.span, ""));
                rest
            }
            all => all,
        };
        self.sum(rest)
    }

    fn sum(&mut self, parts: &[Ast]) -> Result<usize, String> {
        let mut places: usize = 1;
        for part in parts {
            places = places.saturating_add(self.node(part)?);
        }
        Ok(places)
    }

    /// The number of its places.
    fn node(&mut self, ast: &Ast) -> Result<usize, String> {
        match ast {
            Ast::Empty(_) | Ast::Dot(_) => Ok(1),
            Ast::Literal(literal) => self.literal(literal),
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText => Ok(1),
                AssertionKind::WordBoundary => {
                    self.changes.push((assertion.span, r"(?-u:\b)"));
                    Ok(1)
                }
                _ => self.refuse(&assertion.span),
            },
            Ast::ClassPerl(class) => self.perl(class, false),
            Ast::ClassBracketed(class) => {
                self.class_set(&class.kind)?;
                Ok(1)
            }
            Ast::Repetition(repetition) => {
                let repeatable = matches!(
                    &*repetition.ast,
                    Ast::Literal(_)
                        | Ast::Dot(_)
                        | Ast::ClassPerl(_)
                        | Ast::ClassBracketed(_)
                        | Ast::Group(_)
                );
                let times = match &repetition.op.kind {
                    RepetitionKind::Range(range) => {
                        if self.source(&repetition.op.span).starts_with("{,") {
                            return self.refuse(&repetition.op.span);
                        }
                        match range {
                            RepetitionRange::Exactly(n) | RepetitionRange::AtLeast(n) => *n,
                            RepetitionRange::Bounded(_, most) => *most,
                        }
                    }
                    _ => 1,
                };
                if !repeatable || times > 1000 {
                    return self.refuse(&repetition.span);
                }
                let places = self.node(&repetition.ast)?;
                Ok(places.saturating_mul(usize::try_from(times).unwrap_or(1000).max(1)))
            }
            Ast::Group(group) => match &group.kind {
                GroupKind::NonCapturing(flags) if !flags.items.is_empty() => {
                    self.refuse(&group.span)
                }
                _ => self.node(&group.ast),
            },
            Ast::Alternation(alternation) => self.sum(&alternation.asts),
            Ast::Concat(concat) => self.sum(&concat.asts),
            Ast::Flags(flags) => self.refuse(&flags.span),
            Ast::ClassUnicode(class) => self.refuse(&class.span),
        }
    }

    fn literal(&self, literal: &Literal) -> Result<usize, String> {
        let known = match &literal.kind {
            LiteralKind::Verbatim | LiteralKind::Meta => true,
            LiteralKind::Special(kind) => matches!(
                kind,
                SpecialLiteralKind::Tab
                    | SpecialLiteralKind::LineFeed
                    | SpecialLiteralKind::CarriageReturn
            ),
            _ => false,
        };
        match known {
            true => Ok(1),
            false => self.refuse(&literal.span),
        }
    }

    fn perl(&mut self, class: &ClassPerl, inside: bool) -> Result<usize, String> {
        let by = match (&class.kind, class.negated, inside) {
            (ClassPerlKind::Digit, false, false) => "[0-9]",
            (ClassPerlKind::Digit, false, true) => "0-9",
            (ClassPerlKind::Digit, true, _) => "[^0-9]",
            (ClassPerlKind::Word, false, false) => "[0-9A-Za-z_]",
            (ClassPerlKind::Word, false, true) => "0-9A-Za-z_",
            (ClassPerlKind::Word, true, _) => "[^0-9A-Za-z_]",
            (ClassPerlKind::Space, false, false) => r"[\t\n\f\r ]",
            (ClassPerlKind::Space, false, true) => r"\t\n\f\r ",
            (ClassPerlKind::Space, true, _) => r"[^\t\n\f\r ]",
        };
        self.changes.push((class.span, by));
        Ok(1)
    }

    fn class_set(&mut self, set: &ClassSet) -> Result<(), String> {
        match set {
            ClassSet::Item(item) => self.class_item(item),
            ClassSet::BinaryOp(op) => self.refuse(&op.span),
        }
    }

    fn class_item(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Literal(literal) => self.literal(literal).map(|_| ()),
            ClassSetItem::Range(range) => {
                self.literal(&range.start)?;
                self.literal(&range.end).map(|_| ())
            }
            ClassSetItem::Ascii(_) => Ok(()),
            ClassSetItem::Perl(class) => self.perl(class, true).map(|_| ()),
            ClassSetItem::Union(union) => union
                .items
                .iter()
                .try_for_each(|item| self.class_item(item)),
            other => self.refuse(other.span()),
        }
    }
}

/// A glob as a regular expression. `*` and `?` stop at delimiters, `**` does not.
fn glob(pattern: &str, delimiters: &Value) -> Result<Pattern, String> {
    if pattern.len() > MAX_TEXT {
        return Err(format!("a pattern has at most {MAX_TEXT} bytes"));
    }
    let one = match delimiters {
        Value::Null => "(?s:.)".to_owned(),
        Value::Array(own) => one_of_no_delimiters(own)?,
        _ => return Err("the delimiters of a glob are an array or null".to_owned()),
    };
    let mut text = String::from(r"\A(?:");
    let mut places = 1;
    let mut inside = false;
    let mut chars = pattern.chars().peekable();
    while let Some(next) = chars.next() {
        places += 1;
        match next {
            '*' if chars.next_if_eq(&'*').is_some() => {
                if chars.peek() == Some(&'*') {
                    return Err("`***` in a glob is not available here".to_owned());
                }
                text.push_str("(?s:.)*");
            }
            '*' => {
                text.push_str(&one);
                text.push('*');
            }
            '?' => text.push_str(&one),
            '{' if !inside => {
                inside = true;
                text.push_str("(?:");
            }
            '}' if inside => {
                inside = false;
                text.push(')');
            }
            ',' if inside => text.push('|'),
            '[' | ']' | '{' | '}' | '\\' | '!' => {
                return Err(format!("`{next}` in a glob is not available here"));
            }
            literal => text.push_str(&regex_syntax::escape(literal.encode_utf8(&mut [0; 4]))),
        }
    }
    if inside {
        return Err("a brace in the glob is not closed".to_owned());
    }
    text.push_str(r")\z");
    Pattern::new(&text, places, false)
}

fn one_of_no_delimiters(delimiters: &[Value]) -> Result<String, String> {
    let mut class = String::from("[^");
    for delimiter in delimiters {
        let mut chars = delimiter.as_str().unwrap_or_default().chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => class.push_str(&format!(r"\x{{{:x}}}", u32::from(c))),
            _ => return Err("a delimiter of a glob is one character".to_owned()),
        }
    }
    if delimiters.is_empty() {
        class.push('.');
    }
    class.push(']');
    Ok(class)
}
