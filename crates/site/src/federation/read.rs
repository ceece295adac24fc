//! From the text of a federation file to its value, or to all of its faults.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use renkei_spiffe::TrustDomain;

use super::file::{FederationFile, Key, Mirror};
use crate::{
    Faults, Place,
    read::{Entry, Fields, Reader, Wrong, no_later_keys, required, tree, values},
};

const FILE: &[&str] = &[
    "federation",
    "origin",
    "log_key",
    "registrar",
    "witnesses",
    "mirrors",
];
const REGISTRAR: &[&str] = &["keys", "threshold"];
const WITNESSES: &[&str] = &["quorum", "keys"];
const KEY: &str = "an Ed25519 public key is 44 characters of base64; `renkei federation` prints it";

/// Parses and checks a federation file. `name` is what faults call the file.
pub fn parse_federation(name: &str, text: &str) -> Result<FederationFile, Faults> {
    let (root, mut reader) = tree(name, text, "federation file")?;
    let of = Entry {
        key: "the federation file",
        place: Place::START,
        value: &root,
    };
    let fields = reader.fields(of, FILE, "", no_later_keys);
    let name = required(
        &mut reader,
        &fields,
        "federation",
        "intercloud",
        values::site_name,
    );
    let example = "federation.example/intercloud";
    let origin = required(&mut reader, &fields, "origin", example, origin);
    let log_key = required(&mut reader, &fields, "log_key", "KEY", key);
    let registrar = registrar(&mut reader, &fields);
    let witnesses = witnesses(&mut reader, &fields);
    let mirrors = mirrors(&mut reader, &fields);
    if let (Some(log_key), Some((registrar, _)), Some((_, witnesses))) =
        (log_key, &registrar, &witnesses)
    {
        apart(&mut reader, &fields, log_key, registrar, witnesses);
    }
    let (
        Some(name),
        Some(origin),
        Some(log_key),
        Some((registrar, registrar_threshold)),
        Some((quorum, witnesses)),
        true,
    ) = (
        name,
        origin,
        log_key,
        registrar,
        witnesses,
        reader.faults.is_empty(),
    )
    else {
        return Err(reader.faults);
    };
    Ok(FederationFile {
        name,
        origin,
        log_key,
        registrar,
        registrar_threshold,
        quorum,
        witnesses,
        mirrors,
    })
}

/// C2SP signed-note: the name of a key.
fn origin(text: &str) -> Result<String, Wrong> {
    match text.len() <= 255 && !text.contains('+') && !text.contains(char::is_whitespace) {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(
            format!("{text:?} cannot name a log: it has blanks, a '+' or more than 255 bytes"),
            "write the registry's address without a scheme, such as federation.example/intercloud",
        )),
    }
}

fn key(text: &str) -> Result<Key, Wrong> {
    let bytes = STANDARD.decode(text).ok();
    bytes
        .and_then(|bytes| Key::try_from(bytes).ok())
        .ok_or_else(|| Wrong::new(format!("{text:?} is not a key"), KEY))
}

fn number(text: &str) -> Result<usize, Wrong> {
    let hint = "write a whole number, at least 1";
    let wrong = || Wrong::new(format!("{text:?} is not a number of keys"), hint);
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(wrong)
}

fn registrar(reader: &mut Reader, fields: &Fields<'_>) -> Option<(Vec<Key>, usize)> {
    let example = "{keys: [KEY], threshold: 1}";
    let Some(of) = fields.get("registrar") else {
        reader.missing(fields, "registrar", example);
        return None;
    };
    let fields = reader.fields(of, REGISTRAR, example, no_later_keys);
    let threshold = required(reader, &fields, "threshold", "1", number);
    let Some(entry) = fields.get("keys") else {
        reader.missing(&fields, "keys", "[KEY]");
        return None;
    };
    let before = reader.faults.len();
    let mut keys = Vec::new();
    for node in reader.items(entry, "KEY") {
        let Some(key) = reader.scalar(node, "a key", "KEY", key) else {
            continue;
        };
        if keys.contains(&key) {
            reader.fault(node.place, "this key is written twice", "remove one");
        }
        keys.push(key);
    }
    let threshold = threshold?;
    if threshold > keys.len() && reader.faults.len() == before {
        let message = format!(
            "the threshold is {threshold}, and the keys are {}",
            keys.len()
        );
        reader.fault(entry.place, message, "lower `threshold`, or name more keys");
    }
    Some((keys, threshold))
}

fn witnesses(
    reader: &mut Reader,
    fields: &Fields<'_>,
) -> Option<(usize, BTreeMap<TrustDomain, Key>)> {
    let example = "{quorum: 3, keys: {osaka.example: KEY, ...}}";
    let Some(of) = fields.get("witnesses") else {
        reader.missing(fields, "witnesses", example);
        return None;
    };
    let fields = reader.fields(of, WITNESSES, example, no_later_keys);
    let quorum = required(reader, &fields, "quorum", "3", number);
    let Some(entry) = fields.get("keys") else {
        reader.missing(&fields, "keys", "{osaka.example: KEY}");
        return None;
    };
    let before = reader.faults.len();
    let mut keys = BTreeMap::new();
    for witness in reader.entries(entry, "{osaka.example: KEY}") {
        let name = match values::trust_domain(witness.key) {
            Ok(name) => Some(name),
            Err(wrong) => {
                reader.wrong(witness.place, wrong);
                None
            }
        };
        let key = reader.field(witness, "KEY", key);
        if let (Some(name), Some(key)) = (name, key) {
            keys.insert(name, key);
        }
    }
    let quorum = quorum?;
    if reader.faults.len() == before {
        quorum_is_sound(reader, &fields, quorum, keys.len());
    }
    Some((quorum, keys))
}

/// Two quorums without a common witness could vouch for two histories.
fn quorum_is_sound(reader: &mut Reader, fields: &Fields<'_>, quorum: usize, count: usize) {
    let place = fields
        .get("quorum")
        .map_or(fields.place, |entry| entry.value.place);
    if quorum > count {
        let message = format!("the quorum is {quorum}, and the witnesses are {count}");
        reader.fault(place, message, "lower `quorum`, or name more witnesses");
    } else if 2 * quorum <= count {
        let message =
            format!("two quorums of {quorum} among {count} need not have a witness in common");
        let hint = format!("raise `quorum` to {} or more", count / 2 + 1);
        reader.fault(place, message, hint);
    }
}

/// Witnesses watch the registry; neither it nor the registrar is one.
fn apart(
    reader: &mut Reader,
    fields: &Fields<'_>,
    log_key: Key,
    registrar: &[Key],
    witnesses: &BTreeMap<TrustDomain, Key>,
) {
    let place = fields
        .get("witnesses")
        .map_or(fields.place, |entry| entry.place);
    let mut seen: Vec<&Key> = Vec::new();
    for (name, key) in witnesses {
        let whose = match key {
            key if *key == log_key => "the registry's",
            key if registrar.contains(key) => "a registrar's",
            key if seen.contains(&key) => "another witness's",
            _ => "",
        };
        if !whose.is_empty() {
            let message = format!("the witness {name} has {whose} key");
            reader.fault(place, message, "give every witness a key of its own");
        }
        seen.push(key);
    }
}

fn mirrors(reader: &mut Reader, fields: &Fields<'_>) -> Vec<Mirror> {
    let example = "[https://federation.example/intercloud/]";
    let Some(entry) = fields.get("mirrors") else {
        reader.missing(fields, "mirrors", example);
        return Vec::new();
    };
    let before = reader.faults.len();
    let mut mirrors = Vec::new();
    for node in reader.items(entry, "URL or FOLDER") {
        mirrors.extend(reader.scalar(node, "a mirror", "URL or FOLDER", Mirror::read));
    }
    if mirrors.is_empty() && reader.faults.len() == before {
        let hint = format!("write `mirrors: {example}`");
        reader.fault(entry.place, "a federation needs a mirror to read", hint);
    }
    mirrors
}
