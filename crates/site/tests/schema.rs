//! The JSON Schema describes the files that are good.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use serde_json::Value;

/// Checks keys, required keys and the kinds of values, which is what editors complete by.
fn check(schema: &Value, root: &Value, value: &Value, path: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").unwrap();
        return check(&root["$defs"][name], root, value, path);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return check(&choices[0], root, value, path);
    }
    let Some(map) = value.as_object() else {
        if let Some(items) = value.as_array() {
            let each = &schema["items"];
            return items.iter().for_each(|item| check(each, root, item, path));
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            assert!(
                choices.iter().any(|choice| choice["const"] == *value),
                "{path}: {value}"
            );
        } else {
            let kind = match value {
                Value::Bool(_) => "boolean",
                Value::Number(_) => "integer",
                _ => "string",
            };
            assert!(
                schema["type"].to_string().contains(kind),
                "{path}: {value}: {schema}"
            );
        }
        return;
    };
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(
            map.contains_key(required.as_str().unwrap()),
            "{path}: {required} is missing"
        );
    }
    for (key, value) in map {
        let of = match schema["properties"].get(key) {
            Some(property) => property,
            None => &schema["additionalProperties"],
        };
        assert!(of.is_object(), "{path}: the schema has no {key}");
        check(of, root, value, &format!("{path}/{key}"));
    }
}

#[test]
fn good_files_fit_the_schema() {
    let schema = renkei_site::schema();
    for text in [
        include_str!("fixtures/hub.yaml"),
        include_str!("fixtures/every-key.yaml"),
        include_str!("fixtures/dials-out.yaml"),
        include_str!("fixtures/relays.yaml"),
        include_str!("fixtures/nodes.yaml"),
    ] {
        check(&schema, &schema, &serde_saphyr::from_str(text).unwrap(), "");
    }
}

#[test]
fn the_schema_is_shown_whole() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&renkei_site::schema()).unwrap());
}

/// Calls `visit` with every pointer (RFC 6901) to an entry of a mapping.
fn visit_entries(value: &Value, at: &str, visit: &mut impl FnMut(&str, &str)) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{}", key.replace('/', "~1"));
        visit(&at, key);
        visit_entries(value, &at, visit);
    }
}

#[test]
fn no_key_of_the_schema_is_ignored_by_the_reader() {
    let mut seen = Vec::new();
    for text in [
        include_str!("fixtures/hub.yaml"),
        include_str!("fixtures/every-key.yaml"),
        include_str!("fixtures/dials-out.yaml"),
        include_str!("fixtures/relays.yaml"),
        include_str!("fixtures/nodes.yaml"),
    ] {
        let good: Value = serde_saphyr::from_str(text).unwrap();
        renkei_site::parse("good", &good.to_string()).unwrap();
        visit_entries(&good, "", &mut |at, key| {
            seen.push(key.to_owned());
            let mut bad = good.clone();
            *bad.pointer_mut(at).unwrap() = serde_json::json!({"zz": ["zz"]});
            assert!(
                renkei_site::parse("bad", &bad.to_string()).is_err(),
                "{at} is ignored"
            );
        });
    }
    let schema = renkei_site::schema();
    let mappings = schema["$defs"]
        .as_object()
        .unwrap()
        .values()
        .chain([&schema]);
    for key in mappings
        .filter_map(|of| of["properties"].as_object())
        .flat_map(|of| of.keys())
    {
        assert!(seen.contains(key), "no good file has `{key}`");
    }
}
