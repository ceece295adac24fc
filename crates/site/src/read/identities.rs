//! No identity and no hint is given twice.

use std::collections::BTreeMap;

use super::fields::Reader;
use crate::{Item, Place, Service, Workload};

/// Every service or workload whose identity an earlier one has becomes a fault, and every workload
/// whose hint an earlier one has.
pub(super) fn no_two_alike(
    reader: &mut Reader,
    services: &BTreeMap<String, Service>,
    workloads: &BTreeMap<String, Workload>,
) {
    let named = services
        .values()
        .map(|it| (Item::Service(it.name.clone()), &*it.name, it.id.short()));
    let running = workloads.values();
    let named =
        named.chain(running.map(|it| (Item::Workload(it.name.clone()), &*it.name, it.id.short())));
    report(reader, named, |name, earlier, line, id| {
        let message = format!("`{name}` has the identity {id}, as `{earlier}` in line {line} has");
        (message, "give each its own `id`")
    });
    let hints = workloads.values();
    let hints = hints.map(|it| (Item::Workload(it.name.clone()), &*it.name, it.hint.clone()));
    report(reader, hints, |name, earlier, line, hint| {
        let message = format!("`{name}` has the hint {hint:?}, as `{earlier}` in line {line} has");
        (message, "give each its own `hint`")
    });
}

/// Reports each value against the first entry in the file that has the same.
fn report<'a>(
    reader: &mut Reader,
    of: impl Iterator<Item = (Item, &'a str, String)>,
    say: impl Fn(&str, &str, usize, &str) -> (String, &'static str),
) {
    let placed = of.filter_map(|(item, name, value)| {
        let place = *reader.places.get(&item)?;
        Some((place, name, value))
    });
    let mut all: Vec<(Place, &str, String)> = placed.collect();
    all.sort();
    let mut seen: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for (place, name, value) in &all {
        if let Some((earlier, line)) = seen.get(value.as_str()) {
            let (message, hint) = say(name, earlier, *line, value);
            reader.fault(*place, message, hint);
            continue;
        }
        seen.insert(value, (name, place.line));
    }
}
