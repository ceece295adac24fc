//! The words of a module.

use super::{RegoError, syntax::Place};

/// A longer text is no policy of people.
const MAX_BYTES: usize = 256 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) place: Place,
    /// There is something between this word and the one before.
    pub(super) spaced: bool,
    /// It is the first on its line.
    pub(super) first: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Name(String),
    Text(String),
    Number(String),
    Symbol(&'static str),
    End,
}

const SYMBOLS: [&str; 27] = [
    ":=", "==", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "&", "|", "(", ")", "[",
    "]", "{", "}", ",", ";", ":", ".", "_", "$",
];

impl Token {
    pub(super) fn is(&self, symbol: &str) -> bool {
        matches!(&self.kind, Kind::Symbol(own) if *own == symbol)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(&self.kind, Kind::Name(own) if own == name)
    }
}

/// All words, and an end after the last.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, RegoError> {
    if text.len() > MAX_BYTES {
        let message = format!("a policy has at most {MAX_BYTES} bytes");
        return Err(RegoError::new(1, 1, message));
    }
    let mut lexer = Lexer {
        rest: text,
        place: Place { line: 1, column: 1 },
    };
    let mut tokens = Vec::new();
    loop {
        let (spaced, first) = lexer.skip_blank(tokens.is_empty())?;
        let place = lexer.place;
        let kind = lexer.next_kind()?;
        let end = kind == Kind::End;
        tokens.push(Token {
            kind,
            place,
            spaced,
            first,
        });
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
    place: Place,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn advance(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        if next == '\n' {
            self.place.line += 1;
            self.place.column = 1;
        } else {
            self.place.column += 1;
        }
        Some(next)
    }

    fn fault<T>(&self, message: impl Into<String>) -> Result<T, RegoError> {
        Err(RegoError::at(self.place, message))
    }

    fn skip_blank(&mut self, start: bool) -> Result<(bool, bool), RegoError> {
        let (mut spaced, mut first) = (start, start);
        while let Some(next) = self.peek() {
            match next {
                '\n' => first = true,
                ' ' | '\t' | '\r' => {}
                '#' => {
                    let comment = self.rest.trim_start_matches('#').trim_start();
                    if comment.starts_with("METADATA") {
                        return self.fault(
                            "OPA reads METADATA in comments as part of a policy, which is not \
                             available here; write a plain comment",
                        );
                    }
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.advance();
                    }
                    spaced = true;
                    continue;
                }
                _ => break,
            }
            spaced = true;
            self.advance();
        }
        Ok((spaced, first))
    }

    fn next_kind(&mut self) -> Result<Kind, RegoError> {
        let Some(next) = self.peek() else {
            return Ok(Kind::End);
        };
        match next {
            'a'..='z' | 'A'..='Z' | '_' => Ok(Kind::Name(self.name())),
            '0'..='9' => self.number(),
            '"' => self.text(),
            '`' => self.raw_text(),
            '$' => self
                .fault("string interpolation is not available here; use sprintf or concat instead"),
            _ => self.symbol(),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(next) = self.peek() {
            if !next.is_ascii_alphanumeric() && next != '_' {
                break;
            }
            name.push(next);
            self.advance();
        }
        name
    }

    fn number(&mut self) -> Result<Kind, RegoError> {
        let place = self.place;
        let mut digits = String::new();
        while let Some(next) = self.peek() {
            if !next.is_ascii_alphanumeric() && next != '.' && next != '_' {
                break;
            }
            digits.push(next);
            self.advance();
        }
        if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(RegoError::at(place, "a number has no leading zero"));
        }
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            let message = format!(
                "{digits}: only whole numbers in decimal digits are available here, since OPA \
                 computes fractions otherwise; write {digits} in a smaller unit"
            );
            return Err(RegoError::at(place, message));
        }
        Ok(Kind::Number(digits))
    }

    fn text(&mut self) -> Result<Kind, RegoError> {
        let (place, start) = (self.place, self.rest);
        self.advance();
        loop {
            match self.advance() {
                Some('"') => break,
                Some('\\') => {
                    self.advance();
                }
                Some('\n') | None => return Err(RegoError::at(place, "the string has no end")),
                Some(_) => {}
            }
        }
        let length = start.len() - self.rest.len();
        let quoted = start.get(..length).unwrap_or_default();
        serde_json::from_str(quoted)
            .map(Kind::Text)
            .map_err(|_| RegoError::at(place, "the string has an escape that JSON does not know"))
    }

    fn raw_text(&mut self) -> Result<Kind, RegoError> {
        let place = self.place;
        self.advance();
        let mut text = String::new();
        loop {
            match self.advance() {
                Some('`') => return Ok(Kind::Text(text)),
                Some('\r') => {
                    return Err(RegoError::at(
                        place,
                        "a raw string with a carriage return is not available here",
                    ));
                }
                Some(next) => text.push(next),
                None => return Err(RegoError::at(place, "the string has no end")),
            }
        }
    }

    fn symbol(&mut self) -> Result<Kind, RegoError> {
        let found = SYMBOLS
            .iter()
            .find(|symbol| self.rest.starts_with(**symbol));
        let Some(symbol) = found else {
            let next = self.peek().unwrap_or_default();
            return self.fault(format!("{next:?} is not part of the language"));
        };
        for _ in 0..symbol.len() {
            self.advance();
        }
        Ok(Kind::Symbol(symbol))
    }
}
