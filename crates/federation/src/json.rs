//! JSON without doubt: a repeated key is refused, because two readers could take different ones.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

/// Parses a JSON text; trailing bytes and repeated keys are errors. Nesting is bounded by
/// serde_json (128), size by the caller.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice::<Strict>(bytes)
        .map(|strict| strict.0)
        .map_err(|error| describe(&error))
}

/// What the parser says, without control characters: it repeats what it has read, and people see
/// it on their terminals.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Visitor).map(Self)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            if map.contains_key(&key) {
                return Err(de::Error::custom(format_args!(
                    "the key {key:?} is written twice"
                )));
            }
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_is_refused_at_any_depth() {
        assert!(parse(br#"{"a": 1, "b": [{"c": 2}]}"#).is_ok());
        for bad in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"b": [{"c": 2, "c": 3}]}"#,
            // The same key, spelled with an escape.
            r#"{"a": 1, "\u0061": 2}"#,
        ] {
            assert!(
                parse(bad.as_bytes()).unwrap_err().contains("twice"),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_is_not_one_json_text_is_refused() {
        let deep = "[".repeat(10_000);
        for bad in ["", "{", "{} {}", "nan", &deep] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:.20}");
        }
    }

    #[test]
    fn what_is_told_of_a_fault_obeys_no_terminal() {
        let wrong = serde_json::from_str::<crate::Statement>(r#"{"kind":"\u001b[2J\n"}"#);
        let described = describe(&wrong.unwrap_err());
        assert!(
            described.contains("[2J") && !described.contains(char::is_control),
            "{described}"
        );
    }
}
