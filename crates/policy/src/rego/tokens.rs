//! The words of a module, as far as its checks need them.

use regorus::{
    Source,
    unstable::{Lexer, TokenKind},
};

use super::RegoError;

/// One word or symbol, without its quotes.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
    pub(super) line: u32,
    pub(super) column: u32,
    /// Offset in the text.
    pub(super) start: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Text,
    Number,
    Symbol,
}

impl Token {
    pub(super) fn is_name(&self, text: &str) -> bool {
        self.kind == Kind::Name && self.text == text
    }

    pub(super) fn is_symbol(&self, text: &str) -> bool {
        self.kind == Kind::Symbol && self.text == text
    }

    pub(super) fn fault(&self, message: impl Into<String>) -> RegoError {
        RegoError::new(self.line, self.column, message)
    }
}

/// All of a text; comments are left out.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, RegoError> {
    let source = Source::from_contents("policy".to_owned(), text.to_owned())
        .map_err(|error| RegoError::from_parser(&error))?;
    let mut lexer = Lexer::new(&source);
    let mut tokens = Vec::new();
    loop {
        let next = lexer
            .next_token()
            .map_err(|error| RegoError::from_parser(&error))?;
        let kind = match next.0 {
            TokenKind::Eof => return Ok(tokens),
            TokenKind::Ident => Kind::Name,
            TokenKind::String | TokenKind::RawString => Kind::Text,
            TokenKind::Number => Kind::Number,
            TokenKind::Symbol => Kind::Symbol,
        };
        let (text, span) = (next.1.text(), &next.1);
        let text = match kind {
            Kind::Text => text.trim_matches(['"', '`']),
            _ => text,
        };
        tokens.push(Token {
            kind,
            text: text.to_owned(),
            line: span.line,
            column: span.col,
            start: span.start,
        });
    }
}
