//! What each pair has carried, for a bounded number of pairs. Other sites can give their
//! workloads any number of identities: those of a site beyond its rows share a row.

use std::collections::BTreeMap;

use renkei_api::status::{Direction, Pair, Totals};
use renkei_spiffe::{SpiffeId, TrustDomain};

use crate::relay::Traffic;

/// Rows for the identities of one other site, for each service or workload of this one.
pub(crate) const ROWS_OF_SITE: usize = 128;
/// The most rows of a table.
pub(crate) const ROWS: usize = 1_024;

/// The identities without rows of their own: by direction, and by the end at this site.
pub(crate) type Others<T> = BTreeMap<(Direction, SpiffeId), T>;

/// Where a connection is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    /// In the row of its pair.
    Own,
    /// Among the others.
    Other,
}

#[derive(Debug, Default)]
struct PairRow {
    totals: Totals,
    /// The number of the flow that was opened last.
    last: u64,
}

/// The rows of a proxy.
#[derive(Debug, Default)]
pub(super) struct TotalsTable {
    rows: BTreeMap<Pair, PairRow>,
    others: Others<Totals>,
}

impl TotalsTable {
    /// Counts a connection that is opened. Where there are too many rows, the one of a pair
    /// without open connections gives way that was used least recently.
    pub(super) fn open(&mut self, pair: &Pair, flow: u64) -> Row {
        let row = match self.rows.contains_key(pair) || self.make_room(pair) {
            true => Row::Own,
            false => Row::Other,
        };
        let totals = self.totals_of(pair, row, flow);
        totals.connections += 1;
        totals.open += 1;
        row
    }

    /// Counts the end of a connection, and what it has carried.
    pub(super) fn close(&mut self, pair: &Pair, row: Row, traffic: &Traffic) {
        let totals = self.totals_of(pair, row, 0);
        add(totals, traffic);
        totals.open = totals.open.saturating_sub(1);
    }

    fn totals_of(&mut self, pair: &Pair, row: Row, flow: u64) -> &mut Totals {
        match row {
            Row::Own => {
                let row = self.rows.entry(pair.clone()).or_default();
                row.last = row.last.max(flow);
                &mut row.totals
            }
            Row::Other => self.others.entry(other_row(pair)).or_default(),
        }
    }

    fn make_room(&mut self, pair: &Pair) -> bool {
        let full = self.rows.len() >= ROWS;
        let group = group_of(pair);
        let of_group = || {
            self.rows
                .iter()
                .filter(|(known, _)| group_of(known) == group)
        };
        let candidates: Vec<_> = match (full, of_group().count() >= ROWS_OF_SITE) {
            (false, false) => return true,
            (_, true) => of_group().collect(),
            (true, false) => self.rows.iter().collect(),
        };
        let unused = candidates
            .into_iter()
            .filter(|(_, row)| row.totals.open == 0);
        let Some((oldest, _)) = unused.min_by_key(|(_, row)| row.last) else {
            return false;
        };
        let oldest = oldest.clone();
        if let Some(gone) = self.rows.remove(&oldest) {
            let others = self.others.entry(other_row(&oldest)).or_default();
            *others = sum(others, &gone.totals);
        }
        true
    }

    /// All rows, with what the open connections have carried up to now.
    pub(super) fn read<'a>(
        &self,
        open: impl Iterator<Item = (&'a Pair, Row, &'a Traffic)>,
    ) -> (BTreeMap<Pair, Totals>, Others<Totals>) {
        let rows = self.rows.iter();
        let mut rows: BTreeMap<Pair, Totals> =
            rows.map(|(pair, row)| (pair.clone(), row.totals)).collect();
        let mut others = self.others.clone();
        for (pair, row, traffic) in open {
            let totals = match row {
                Row::Own => rows.entry(pair.clone()).or_default(),
                Row::Other => others.entry(other_row(pair)).or_default(),
            };
            add(totals, traffic);
        }
        (rows, others)
    }
}

/// Pairs that share rows: those of one other site and one end at this site.
fn group_of(pair: &Pair) -> (Direction, &TrustDomain, &SpiffeId) {
    (pair.direction, pair.remote().trust_domain(), pair.own())
}

pub(crate) fn other_row(pair: &Pair) -> (Direction, SpiffeId) {
    (pair.direction, pair.own().clone())
}

fn add(totals: &mut Totals, traffic: &Traffic) {
    totals.bytes_sent += traffic.to_wan();
    totals.bytes_received += traffic.to_app();
}

fn sum(one: &Totals, other: &Totals) -> Totals {
    Totals {
        connections: one.connections + other.connections,
        open: one.open + other.open,
        bytes_sent: one.bytes_sent + other.bytes_sent,
        bytes_received: one.bytes_received + other.bytes_received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(caller: &str) -> Pair {
        let id = |name: &str| SpiffeId::parse(&format!("spiffe://{name}")).unwrap();
        Pair {
            direction: Direction::Inbound,
            caller: id(caller),
            callee: id("hokkaido.example/broker"),
        }
    }

    fn read(table: &TotalsTable) -> (BTreeMap<Pair, Totals>, Others<Totals>) {
        table.read(std::iter::empty())
    }

    #[test]
    fn identities_that_a_site_mints_share_a_row_at_last_and_nothing_is_lost() {
        let mut table = TotalsTable::default();
        let traffic = Traffic::default();
        traffic.add_to_wan(10);
        for n in 0..9_000 {
            let minted = pair(&format!("osaka.example/{n}"));
            let row = table.open(&minted, n);
            table.close(&minted, row, &traffic);
        }
        let (rows, others) = read(&table);
        assert_eq!((rows.len(), others.len()), (ROWS_OF_SITE, 1));
        assert!(
            rows.contains_key(&pair("osaka.example/8999")),
            "the last ones"
        );
        let all = || rows.values().chain(others.values());
        assert_eq!(all().map(|totals| totals.connections).sum::<u64>(), 9_000);
        assert_eq!(all().map(|totals| totals.bytes_sent).sum::<u64>(), 90_000);
    }

    #[test]
    fn a_pair_with_open_connections_keeps_its_row() {
        let mut table = TotalsTable::default();
        for n in 0..1_000 {
            table.open(&pair(&format!("osaka.example/{n}")), n);
        }
        let first = pair("osaka.example/0");
        assert_eq!(table.open(&first, 1_000), Row::Own);
        let late = pair("osaka.example/999");
        table.close(&late, Row::Other, &Traffic::default());
        let (rows, others) = read(&table);
        assert_eq!((rows.len(), rows[&first].open), (ROWS_OF_SITE, 2));
        let others: u64 = others.values().map(|totals| totals.open).sum();
        assert_eq!(others, 1_000 - ROWS_OF_SITE as u64 - 1);
    }

    #[test]
    fn one_site_does_not_take_the_rows_of_another() {
        let mut table = TotalsTable::default();
        let kept = pair("kyushu.example/reader");
        let row = table.open(&kept, 0);
        table.close(&kept, row, &Traffic::default());
        for n in 1..9_000 {
            table.open(&pair(&format!("osaka.example/{n}")), n);
        }
        assert!(read(&table).0.contains_key(&kept));
        for n in 0..9_000 {
            table.open(&pair(&format!("s{n}.example/reader")), 9_000 + n);
        }
        assert!(read(&table).0.len() <= ROWS);
    }
}
