//! Connections of local workloads to services of other sites, or of this one.
//!
//! A connection passes [`listener`], [`connection`] (whose process is it?) and [`dial`] (a stream
//! to the callee). Where the callee is known not to answer it is reset at once ([`reachability`]).

mod broker_ports;
mod brokers;
mod connection;
mod dial;
mod failure;
mod listener;
mod reachability;
mod route;

use std::{path::PathBuf, sync::Arc};

use renkei_runtime::attest::Attestors;

use crate::{
    admission::Admission, context::Context, sessions::kafka::CallerState, tls::Exit,
    trunk::Connector,
};

use broker_ports::PortFile;

pub(crate) use listener::OutboundListener;
pub(crate) use route::{Route, Routes};

/// What the connections of all local workloads share.
#[derive(Debug)]
pub(crate) struct Outbound {
    context: Arc<Context>,
    admission: Arc<Admission>,
    connector: Arc<Connector>,
    exit: Arc<dyn Exit>,
    attestors: Attestors,
    broker_ports: Option<PortFile>,
    kafka: CallerState,
}

impl Outbound {
    /// `broker_ports` is the file that keeps the local ports of Kafka brokers over restarts.
    pub(crate) fn new(
        (context, admission): (&Arc<Context>, &Arc<Admission>),
        (connector, exit): (Arc<Connector>, Arc<dyn Exit>),
        broker_ports: Option<PathBuf>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context: context.clone(),
            admission: admission.clone(),
            connector,
            exit,
            attestors: Attestors::default(),
            broker_ports: broker_ports.map(PortFile::open),
            kafka: CallerState::new(context.limits.kafka_memory),
        })
    }
}
