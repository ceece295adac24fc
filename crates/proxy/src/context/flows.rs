//! The register of open connections, and what closed ones have carried.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use renkei_api::status::{Pair, Totals};
use renkei_runtime::{clock, drain::DrainGuard};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::totals::{Others, Row, TotalsTable};
use crate::{identity::Credentials, relay::Traffic};

/// What carries a connection to the other side of the network.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) remote: SocketAddr,
    pub(crate) svid_not_after: OffsetDateTime,
    pub(crate) session: Option<Arc<Credentials>>,
}

impl Carrier {
    /// A TLS session of its own.
    pub(crate) fn session(remote: SocketAddr, credentials: Arc<Credentials>) -> Self {
        Self {
            remote,
            svid_not_after: credentials.own().not_after(),
            session: Some(credentials),
        }
    }

    /// A stream of a trunk.
    pub(crate) fn trunk(remote: SocketAddr, svid_not_after: OffsetDateTime) -> Self {
        Self {
            remote,
            svid_not_after,
            session: None,
        }
    }
}

/// One open connection.
#[derive(Debug)]
pub struct Flow {
    /// Its number, unique in this process.
    pub id: u64,
    /// Who talks to whom.
    pub pair: Pair,
    /// The gateway that was dialled, or the address the peer dialled from.
    pub remote: SocketAddr,
    /// When it was opened.
    pub opened: OffsetDateTime,
    /// When this side's SVID ends that opened it. A connection within a trunk continues with the
    /// next one.
    pub svid_not_after: OffsetDateTime,
    /// What both ends have shown, if this is a TLS session of its own. It ends with them.
    pub(crate) session: Option<Arc<Credentials>>,
    /// What it has carried.
    pub traffic: Traffic,
    cut: CancellationToken,
    reason: OnceLock<&'static str>,
}

impl Flow {
    /// A connection that is not in the register.
    pub(crate) fn new(id: u64, pair: Pair, carrier: Carrier, cut: CancellationToken) -> Self {
        let Carrier {
            remote,
            svid_not_after,
            session,
        } = carrier;
        Self {
            id,
            pair,
            remote,
            opened: clock::now(),
            svid_not_after,
            session,
            traffic: Traffic::default(),
            cut,
            reason: OnceLock::new(),
        }
    }

    /// Ends the connection with a reset. The first reason stays.
    pub fn cut(&self, reason: &'static str) {
        if self.reason.set(reason).is_ok() {
            let (caller, callee) = (&self.pair.caller, &self.pair.callee);
            tracing::info!(flow = self.id, %caller, %callee, reason, "a connection is cut");
        }
        self.cut.cancel();
    }

    /// Fires when the connection must end.
    pub fn cut_token(&self) -> &CancellationToken {
        &self.cut
    }

    /// Why it was cut.
    pub fn cut_reason(&self) -> Option<&'static str> {
        self.reason.get().copied()
    }
}

#[derive(Debug, Default)]
struct Register {
    open: BTreeMap<u64, (Arc<Flow>, Row)>,
    totals: TotalsTable,
}

/// All connections of a proxy.
#[derive(Debug, Default)]
pub struct Flows {
    last: AtomicU64,
    register: Mutex<Register>,
}

impl Flows {
    /// A number for a connection to come.
    pub fn next_id(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Enters a connection. It stays until the ticket is dropped, and is cut with `parent`.
    pub(crate) fn open(
        self: &Arc<Self>,
        id: u64,
        pair: Pair,
        carrier: Carrier,
        (parent, guard): (&CancellationToken, DrainGuard),
    ) -> Ticket {
        let flow = Arc::new(Flow::new(id, pair, carrier, parent.child_token()));
        let mut register = self.register();
        let row = register.totals.open(&flow.pair, id);
        register.open.insert(id, (flow.clone(), row));
        Ticket {
            flow,
            row,
            flows: self.clone(),
            _guard: guard,
        }
    }

    /// The open connections, oldest first.
    pub fn list(&self) -> Vec<Arc<Flow>> {
        let register = self.register();
        let open = register.open.values();
        open.map(|(flow, _)| flow.clone()).collect()
    }

    /// What every pair has carried, up to now, and what the identities without rows have.
    pub(crate) fn totals(&self) -> (BTreeMap<Pair, Totals>, Others<Totals>) {
        let register = self.register();
        let open = register.open.values();
        let open = open.map(|(flow, row)| (&flow.pair, *row, &flow.traffic));
        register.totals.read(open)
    }

    /// Cuts every open connection that `reason` gives a reason for; says how many.
    pub(crate) fn cut_where(&self, reason: impl Fn(&Flow) -> Option<&'static str>) -> usize {
        // Asked outside the lock: a policy may take its time.
        let doomed = self
            .list()
            .into_iter()
            .filter_map(|flow| Some((reason(&flow)?, flow)));
        doomed.map(|(reason, flow)| flow.cut(reason)).count()
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection in the register.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) flow: Arc<Flow>,
    row: Row,
    flows: Arc<Flows>,
    _guard: DrainGuard,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut register = self.flows.register();
        register.open.remove(&self.flow.id);
        let (pair, traffic) = (&self.flow.pair, &self.flow.traffic);
        register.totals.close(pair, self.row, traffic);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use renkei_api::status::Direction;
    use renkei_spiffe::SpiffeId;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_cut_is_one_line_with_its_reason() {
        let id = |text| SpiffeId::parse(text).unwrap();
        let pair = Pair {
            direction: Direction::Inbound,
            caller: id("spiffe://osaka.example/collector"),
            callee: id("spiffe://hokkaido.example/broker"),
        };
        let remote = ([127, 0, 0, 1], 1).into();
        let carrier = Carrier::trunk(remote, clock::now());
        let flow = Flow::new(7, pair, carrier, CancellationToken::new());
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            flow.cut("the SVID of its peer has expired");
            flow.cut("the process ends");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["level"], "INFO");
        let fields = &event["fields"];
        assert_eq!(fields["flow"], 7);
        assert_eq!(fields["caller"], "spiffe://osaka.example/collector");
        assert_eq!(fields["reason"], "the SVID of its peer has expired");
    }
}
