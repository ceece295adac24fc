//! Policies from a grammar, asked of OPA too. The seed is fixed; `RENKEI_POLICY_SEED` and
//! `RENKEI_POLICY_COUNT` make other runs.

use fastrand::Rng;

use super::{
    agreement::{Fate, compare, inputs},
    opa::Opa,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Number,
    Bool,
    List,
    Set,
    Map,
}

const TYPES: [Type; 6] = [
    Type::Text,
    Type::Number,
    Type::Bool,
    Type::List,
    Type::Set,
    Type::Map,
];
const TEXTS: [&str; 9] = [
    "\"/app\"",
    "\"/trusted\"",
    "\"broker\"",
    "\"a\"",
    "\"osaka.example\"",
    "\"\"",
    "\"path\"",
    "\"admin/app\"",
    "\"é\"",
];
const REGEXES: [&str; 8] = [
    "^/[a-z]+$",
    "\\\\d+",
    "(?i)^/APP",
    "a|b",
    "[^/]+/app",
    "^\\\\w+\\\\.example$",
    "a{2,3}",
    "\\\\bapp\\\\b",
];
const GLOBS: [&str; 8] = [
    "/*",
    "*.example",
    "**",
    "{admin/,}app",
    "/a?p",
    "*",
    "{a,b}*",
    "/**/app",
];

struct Grammar {
    rng: Rng,
    rules: Vec<(String, Type)>,
    functions: Vec<(String, Type)>,
    variables: Vec<(String, Type)>,
    fresh: usize,
    depth: usize,
}

impl Grammar {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            rules: Vec::new(),
            functions: Vec::new(),
            variables: Vec::new(),
            fresh: 0,
            depth: 0,
        }
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.rng.usize(..from.len())]
    }

    fn name(&mut self) -> String {
        self.fresh += 1;
        format!("v{}", self.fresh)
    }

    fn known(&mut self, of: Type) -> Option<String> {
        let own: Vec<String> = self
            .variables
            .iter()
            .chain(&self.rules)
            .filter(|(_, own)| *own == of)
            .map(|(name, _)| name.clone())
            .collect();
        (!own.is_empty()).then(|| own[self.rng.usize(..own.len())].clone())
    }

    fn term(&mut self, of: Type) -> String {
        if self.rng.u8(..) < 90
            && let Some(known) = self.known(of)
        {
            return known;
        }
        self.depth += 1;
        let term = match of {
            Type::Text => self.text(),
            Type::Number => self.number(),
            Type::Bool => self.truth(),
            Type::List => self.list(),
            Type::Set => self.set(),
            Type::Map => self.map(),
        };
        self.depth -= 1;
        term
    }

    fn deep(&self) -> bool {
        self.depth > 4
    }

    fn text(&mut self) -> String {
        if self.deep() || self.rng.u8(..) < 80 {
            return match self.rng.u8(..10) {
                0..=3 => self.pick(&TEXTS).to_owned(),
                4 => "input.none".to_owned(),
                5 => "input.operation.path".to_owned(),
                6 => "input.source.ip".to_owned(),
                _ => self
                    .pick(&[
                        "input.peer.path",
                        "input.peer.trust_domain",
                        "input.service.name",
                    ])
                    .to_owned(),
            };
        }
        let (one, two) = (self.term(Type::Text), self.term(Type::Text));
        match self.rng.u8(..15) {
            0 => format!("lower({one})"),
            1 => format!("upper({one})"),
            2 => format!("trim_prefix({one}, \"/\")"),
            3 => format!("concat(\"-\", [{one}, {two}])"),
            4 => format!("replace({one}, \"a\", {two})"),
            5 => format!("sprintf(\"%s:%v\", [{one}, {two}])"),
            6 => format!("{}[{one}]", self.headed(Type::Map)),
            7 => format!("{}[{}]", self.headed(Type::List), self.term(Type::Number)),
            8 => format!("object.get({}, {one}, {two})", self.term(Type::Map)),
            9 => format!(
                "substring({one}, {}, {})",
                self.rng.u8(..3),
                self.rng.u8(..4)
            ),
            10 => format!("trim({one}, {two})"),
            11 => self.call(Type::Text),
            12 => format!("time.weekday({}000000000)", self.rng.u32(..)),
            13 => format!("strings.reverse({one})"),
            _ => format!("{}[{}]", self.headed(Type::Set), one),
        }
    }

    /// A term that may have an index behind it.
    fn headed(&mut self, of: Type) -> String {
        match self.known(of) {
            Some(known) => known,
            None => match of {
                Type::Map => "{input.peer.path: \"y\"}".to_owned(),
                Type::Set => "{\"/app\", \"broker\"}".to_owned(),
                _ => "[\"/app\", \"a\"]".to_owned(),
            },
        }
    }

    fn call(&mut self, of: Type) -> String {
        let own: Vec<String> = self
            .functions
            .iter()
            .filter(|(_, result)| *result == of)
            .map(|(name, _)| name.clone())
            .collect();
        if own.is_empty() {
            return self.term(of);
        }
        let name = own[self.rng.usize(..own.len())].clone();
        format!("{name}({})", self.term(Type::Text))
    }

    fn number(&mut self) -> String {
        if self.deep() || self.rng.u8(..) < 90 {
            return match self.rng.u8(..200) {
                0 => "0.1".to_owned(),
                1 => "-2".to_owned(),
                _ => self.rng.u8(..4).to_string(),
            };
        }
        let (one, two) = (self.term(Type::Number), self.term(Type::Number));
        match self.rng.u8(..9) {
            0 => format!("{one} + {two}"),
            1 => format!("{one} - {two}"),
            2 => format!("{one} * {two}"),
            3 => format!("{one} % {two}"),
            4 => format!("count({})", self.collection()),
            5 => format!(
                "indexof({}, {})",
                self.term(Type::Text),
                self.term(Type::Text)
            ),
            6 => format!(
                "strings.count({}, {})",
                self.term(Type::Text),
                self.term(Type::Text)
            ),
            7 => self.call(Type::Number),
            _ => format!("sum([{one}, {two}])"),
        }
    }

    fn collection(&mut self) -> String {
        let of = [Type::List, Type::Set, Type::Map][self.rng.usize(..3)];
        self.term(of)
    }

    fn truth(&mut self) -> String {
        if self.deep() {
            return self.pick(&["true", "false"]).to_owned();
        }
        let (one, two) = (self.term(Type::Text), self.term(Type::Text));
        match self.rng.u8(..14) {
            0 | 1 => format!("{one} == {two}"),
            2 => format!("{one} != {two}"),
            3 => format!("{} < {}", self.term(Type::Number), self.term(Type::Number)),
            4 | 5 => format!("{one} in {}", self.collection()),
            6 => format!("startswith({one}, {two})"),
            7 => format!("contains({one}, {two})"),
            8 => format!("regex.match(\"{}\", {one})", self.pick(&REGEXES)),
            9 => format!(
                "glob.match(\"{}\", {}, {one})",
                self.pick(&GLOBS),
                self.rng
                    .choice(["[\"/\"]", "[]", "null", "[\".\", \"/\"]"])
                    .unwrap_or("[]")
            ),
            10 => format!(
                "net.cidr_contains(\"{}\", {})",
                self.rng
                    .choice(["10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0"])
                    .unwrap_or("::/0"),
                self.rng
                    .choice([
                        "input.source.ip",
                        "\"::ffff:10.1.1.1\"",
                        "\"10.0.0.0/9\"",
                        "input.peer.path"
                    ])
                    .unwrap_or("1")
            ),
            11 => self.call(Type::Bool),
            12 => format!("{} == {}", self.term(Type::Set), self.term(Type::Set)),
            _ => self.pick(&["true", "false"]).to_owned(),
        }
    }

    fn list(&mut self) -> String {
        if self.deep() {
            return "[\"/app\", \"a\"]".to_owned();
        }
        let (one, two) = (self.term(Type::Text), self.term(Type::Text));
        match self.rng.u8(..6) {
            0 | 1 => format!("[{one}, {two}]"),
            2 => format!("split({one}, \"/\")"),
            3 => format!(
                "array.concat({}, {})",
                self.term(Type::List),
                self.term(Type::List)
            ),
            4 => format!("sort({})", self.term(Type::Set)),
            _ => self.comprehension('[', ']', Type::Text),
        }
    }

    fn set(&mut self) -> String {
        if self.deep() {
            return "{\"/app\", \"broker\"}".to_owned();
        }
        let (one, two) = (self.term(Type::Text), self.term(Type::Text));
        match self.rng.u8(..6) {
            0 | 1 => format!("{{{one}, {two}}}"),
            2 => {
                let by = self.pick(&["|", "&", "-"]);
                format!("({} {by} {})", self.term(Type::Set), self.term(Type::Set))
            }
            3 => format!("object.keys({})", self.term(Type::Map)),
            _ => self.comprehension('{', '}', Type::Text),
        }
    }

    fn map(&mut self) -> String {
        if self.deep() || self.rng.bool() {
            let value = match self.deep() {
                true => "\"x\"".to_owned(),
                false => self.term(Type::Text),
            };
            return format!("{{\"/app\": {value}, \"path\": \"y\"}}");
        }
        match self.rng.u8(..3) {
            0 => "input.peer".to_owned(),
            1 => format!("{{{}: {}}}", self.term(Type::Text), self.term(Type::Text)),
            _ => {
                let before = self.variables.len();
                let body = self.body();
                let (key, value) = (self.term(Type::Text), self.term(Type::Text));
                self.variables.truncate(before);
                format!("{{{key}: {value} | {body}}}")
            }
        }
    }

    fn comprehension(&mut self, open: char, close: char, of: Type) -> String {
        let before = self.variables.len();
        let body = self.body();
        let head = self.term(of);
        self.variables.truncate(before);
        format!("{open}{head} | {body}{close}")
    }

    fn body(&mut self) -> String {
        let count = 1 + self.rng.usize(..3);
        let mut statements: Vec<String> = (0..count).map(|_| self.statement()).collect();
        // OPA looks for an order itself.
        if self.rng.u8(..) < 20 {
            statements.reverse();
        }
        statements.join("; ")
    }

    fn declare(&mut self, of: Type) -> String {
        let name = self.name();
        self.variables.push((name.clone(), of));
        name
    }

    fn statement(&mut self) -> String {
        self.depth += 1;
        let statement = match self.rng.u8(..20) {
            0 | 1 => {
                let of = TYPES[self.rng.usize(..TYPES.len())];
                let value = self.term(of);
                let by = if self.rng.u8(..) < 60 { "=" } else { ":=" };
                format!("{} {by} {value}", self.declare(of))
            }
            2 | 3 => {
                let collection = self.collection();
                format!("some {} in {collection}", self.declare(Type::Text))
            }
            4 => {
                let collection = self.headed(Type::Map);
                let value = self.declare(Type::Text);
                format!("some {}, {value} in {collection}", self.declare(Type::Text))
            }
            5 => {
                let collection = self.headed(Type::Set);
                format!("{collection}[{}]", self.declare(Type::Text))
            }
            6 => {
                let (list, value) = (self.headed(Type::List), self.term(Type::Text));
                format!("{list}[{}] == {value}", self.declare(Type::Number))
            }
            7 => format!("{}[_] = {}", self.headed(Type::Map), self.term(Type::Text)),
            8..=10 => self.negation(),
            11 => {
                let domain = self.collection();
                let name = self.name();
                let before = self.variables.len();
                self.variables.push((name.clone(), Type::Text));
                let test = self.truth();
                self.variables.truncate(before);
                format!("every {name} in {domain} {{ {name} != \"zz\"; {test} }}")
            }
            12 => {
                let target = self.pick(&["input.peer.path", "input.peer", "input", "input.none"]);
                let value = match target {
                    "input" | "input.peer" => {
                        "{\"path\": \"/app\", \"peer\": {\"path\": \"/a\"}}".to_owned()
                    }
                    _ => self.term(Type::Text),
                };
                let inner = match self.rng.bool() {
                    true => self.truth(),
                    false => self.negation(),
                };
                format!("{inner} with {target} as {value}")
            }
            13 => {
                let pattern = format!("[{}, _]", self.name());
                format!("{pattern} = {}", self.term(Type::List))
            }
            14 => self.term(Type::Text),
            _ => self.truth(),
        };
        self.depth -= 1;
        statement
    }

    fn negation(&mut self) -> String {
        match self.rng.u8(..5) {
            0 => format!("not {}", self.term(Type::Text)),
            1 => format!("not {}[{}]", self.headed(Type::Map), self.term(Type::Text)),
            _ => format!("not {}", self.truth()),
        }
    }

    fn rule(&mut self, name: &str) -> String {
        self.variables.clear();
        let of = TYPES[self.rng.usize(..TYPES.len())];
        let finished = |own: &mut Self, of| own.rules.push((name.to_owned(), of));
        match self.rng.u8(..24) {
            0..=4 => {
                let body = self.body();
                let value = self.term(of);
                let mut text = format!("{name} := {value} if {{ {body} }}");
                for _ in 0..self.rng.u8(..3) {
                    self.variables.clear();
                    let body = self.body();
                    let value = self.term(of);
                    text.push_str(&format!(" else := {value} if {{ {body} }}"));
                }
                finished(self, of);
                text
            }
            5 | 6 => {
                let value = self.term(of);
                finished(self, of);
                format!("{name} := {value}")
            }
            7..=9 => {
                let mut text = String::new();
                for _ in 0..1 + self.rng.u8(..2) {
                    self.variables.clear();
                    let body = self.body();
                    text.push_str(&format!("{name} if {{ {body} }}\n"));
                }
                finished(self, Type::Bool);
                text
            }
            10..=13 => {
                let mut text = String::new();
                for _ in 0..1 + self.rng.u8(..2) {
                    self.variables.clear();
                    let body = self.body();
                    text.push_str(&format!(
                        "{name} contains {} if {{ {body} }}\n",
                        self.term(Type::Text)
                    ));
                }
                finished(self, Type::Set);
                text
            }
            14 | 15 => {
                let body = self.body();
                let (key, value) = (self.term(Type::Text), self.term(Type::Text));
                finished(self, Type::Map);
                format!("{name}[{key}] := {value} if {{ {body} }}")
            }
            16 => {
                let body = self.body();
                let (key, value) = (self.term(Type::Text), self.term(Type::Text));
                format!(
                    "{name}[{key}] contains {value} if {{ {body} }}\nu{name} := {name}.broker\nw{name} if not \"/app\" in {name}.broker"
                )
            }
            17..=19 => {
                self.variables.push(("arg".to_owned(), Type::Text));
                let body = self.body();
                let value = self.term(of);
                self.functions.push((name.to_owned(), of));
                format!("{name}(arg) := {value} if {{ {body} }}")
            }
            20 => {
                let (value, body) = (self.term(of), self.body());
                finished(self, of);
                let default = match of {
                    Type::Number => "1",
                    Type::Bool => "false",
                    Type::List => "[]",
                    Type::Set => "set()",
                    Type::Map => "{}",
                    Type::Text => "\"none\"",
                };
                self.variables.clear();
                format!("default {name} := {default}\n{name} := {value} if {{ {body} }}")
            }
            21 if self.rng.bool() => format!(
                "default {name} := [x | some x in {}]\n{name} := [] if {}",
                self.headed(Type::List),
                self.truth()
            ),
            22 if self.rng.bool() => format!(
                "default {name}(_) := 1\n{name}(x) := 2 if x == {}\nu{name} := {name}(\"/app\")",
                self.term(Type::Text)
            ),
            _ => format!(
                "{name} := 1 if {}\n{name} := 2 if {}",
                self.truth(),
                self.truth()
            ),
        }
    }

    fn module(&mut self) -> String {
        let mut text = String::from("package renkei.authz\n\nimport rego.v1\n");
        if self.rng.u8(..) < 3 {
            text.push_str("import future.keywords.not\n");
        }
        for index in 0..2 + self.rng.usize(..5) {
            let name = format!("r{index}");
            text.push_str(&self.rule(&name));
            text.push('\n');
        }
        self.variables.clear();
        let body = self.body();
        text.push_str(&format!("deny contains \"x\" if {{ {body} }}\n"));
        self.variables.clear();
        let body = self.body();
        text.push_str(&format!("allow if {{ {body} }}\n"));
        text
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[test]
fn generated_policies_have_opas_answer_or_are_refused() {
    let (opa, inputs) = (Opa::start(), inputs());
    let (seed, count) = (
        number("RENKEI_POLICY_SEED", 1),
        number("RENKEI_POLICY_COUNT", 600),
    );
    let (mut accepted, mut stricter) = (0, 0);
    let mut faults = Vec::new();
    for index in 0..count {
        let text = Grammar::new(seed * 1_000_000 + index).module();
        match compare(&opa, &text, &inputs) {
            Ok(Fate::Same) => accepted += 1,
            Ok(Fate::Stricter) => stricter += 1,
            Ok(Fate::Refused | Fate::Unknown) => {}
            Err(fault) => faults.push(fault),
        }
    }
    println!("{accepted} of {count} are the same, {stricter} stricter");
    let some = faults
        .iter()
        .take(5)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n----\n");
    assert!(faults.is_empty(), "{} of {count}: {some}", faults.len());
    assert!(
        accepted * 4 >= count,
        "only {accepted} of {count} are accepted"
    );
}
