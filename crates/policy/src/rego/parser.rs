//! From words to the syntax tree.
//!
//! The grammar is the part of OPA's (version 1) that is proved to mean the same here. Where OPA
//! reads a text in one of two ways by trying, this parser takes the way that OPA takes or refuses.

mod rules;
mod statements;
mod terms;

use super::{
    RegoError,
    lexer::{Kind, Token, tokens},
    syntax::{Import, Module, Place},
};

/// Terms and bodies within one another; the parser and the compiler follow them on the stack.
const MAX_DEPTH: usize = 48;

const KEYWORDS: [&str; 16] = [
    "as", "contains", "default", "else", "every", "false", "if", "import", "in", "not", "null",
    "package", "set", "some", "true", "with",
];

/// Reads a whole module.
pub(super) fn parse(text: &str) -> Result<Module, RegoError> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
    };
    parser.module()
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

type Parsed<T> = Result<T, RegoError>;

impl Parser {
    /// The word to be read next; behind the last there is an end for ever.
    fn token(&self) -> &Token {
        static END: Token = Token {
            kind: Kind::End,
            place: Place { line: 1, column: 1 },
            spaced: true,
            first: true,
        };
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).unwrap_or(&END)
    }

    fn place(&self) -> Place {
        self.token().place
    }

    fn take(&mut self) -> Kind {
        let kind = self.token().kind.clone();
        self.at += 1;
        kind
    }

    fn fault<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(RegoError::at(self.place(), message))
    }

    fn unexpected<T>(&self, wanted: &str) -> Parsed<T> {
        let found = match &self.token().kind {
            Kind::Name(name) => format!("`{name}`"),
            Kind::Text(_) => "a string".to_owned(),
            Kind::Number(digits) => digits.clone(),
            Kind::Symbol(symbol) => format!("`{symbol}`"),
            Kind::End => "the end of the text".to_owned(),
        };
        self.fault(format!("expected {wanted}, found {found}"))
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = self.token().is(symbol);
        if found {
            self.at += 1;
        }
        found
    }

    fn eat_name(&mut self, name: &str) -> bool {
        let found = self.token().is_name(name);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        match self.eat(symbol) {
            true => Ok(()),
            false => self.unexpected(&format!("`{symbol}`")),
        }
    }

    /// A name that is no keyword.
    fn name(&mut self) -> Parsed<String> {
        match &self.token().kind {
            Kind::Name(name) if !KEYWORDS.contains(&name.as_str()) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    /// Whether `symbol` follows without a blank, as in `a[0]`.
    fn joined(&self, symbol: &str) -> bool {
        self.token().is(symbol) && !self.token().spaced
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            return self.fault(format!("more than {MAX_DEPTH} terms within one another"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn module(&mut self) -> Parsed<Module> {
        let place = self.place();
        if !self.eat_name("package") {
            return self.unexpected("`package renkei.authz`");
        }
        let package = (place, self.path()?);
        let mut imports = Vec::new();
        let mut keywords = Vec::new();
        while self.token().is_name("import") {
            self.new_line()?;
            self.import(&mut imports, &mut keywords)?;
        }
        let mut rules = Vec::new();
        while self.token().kind != Kind::End {
            self.new_line()?;
            if self.token().is_name("import") {
                return self.fault("imports come before the rules");
            }
            rules.push(self.rule()?);
        }
        Ok(Module {
            package,
            imports,
            rules,
        })
    }

    fn new_line(&self) -> Parsed<()> {
        match self.token().first {
            true => Ok(()),
            false => self.unexpected("the end of the line"),
        }
    }

    /// `a.b.c`; what follows a dot may be a keyword.
    fn path(&mut self) -> Parsed<Vec<String>> {
        let mut path = vec![self.name()?];
        while self.joined(".") {
            self.at += 1;
            match self.take() {
                Kind::Name(name) => path.push(name),
                _ => {
                    self.at -= 1;
                    return self.unexpected("a name");
                }
            }
        }
        Ok(path)
    }

    fn import(&mut self, imports: &mut Vec<Import>, keywords: &mut Vec<String>) -> Parsed<()> {
        self.at += 1;
        let place = self.place();
        let path = self.path()?;
        let dotted = path.join(".");
        match path
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .as_slice()
        {
            ["rego", "v1"]
            | ["future", "keywords"]
            | ["future", "keywords", "contains" | "every" | "if" | "in"] => {
                let exclusive = dotted == "rego.v1" || keywords.iter().any(|own| own == "rego.v1");
                if keywords.contains(&dotted) || (exclusive && !keywords.is_empty()) {
                    let message = format!("{dotted} is imported already; remove this line");
                    return Err(RegoError::at(place, message));
                }
                if self.token().is_name("as") {
                    return self.fault("an import of keywords has no other name");
                }
                keywords.push(dotted);
                Ok(())
            }
            ["input", .., last] => {
                let name = match self.eat_name("as") {
                    true => self.name()?,
                    false if KEYWORDS.contains(last) => return self.unexpected("`as` and a name"),
                    false => (*last).to_owned(),
                };
                if matches!(name.as_str(), "_" | "input" | "data") {
                    return Err(RegoError::at(
                        place,
                        format!("an import cannot be called {name}"),
                    ));
                }
                let path = path.get(1..).unwrap_or_default().to_vec();
                imports.push(Import { place, path, name });
                Ok(())
            }
            ["data", ..] => Err(RegoError::at(
                place,
                "there is nothing to import: `data` holds this module alone",
            )),
            _ => Err(RegoError::at(
                place,
                format!("import {dotted} is not available here: of keywords, use `import rego.v1`"),
            )),
        }
    }
}
