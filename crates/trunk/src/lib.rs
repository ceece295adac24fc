//! The trunk: many application connections over a few lanes between two proxies, so that one
//! connection over a long path is not limited by one socket's buffers, nor lost with it.
//!
//! A *lane* is a TLS connection, a *trunk* the lanes that belong together, a *stream* one
//! application connection. The crate is a pure state machine: bytes, requests and times go in;
//! frames, events and a next timeout come out. It knows no sockets, tasks, files or clock.
//!
//! ```text
//!   applications                                                               lanes
//!   open, write, finish ──►┌──────────────────── Trunk ───────────────────┐
//!                          │ streams ─► schedule (by bytes, new ones first)├──► poll_transmit
//!   reset, stop            │    ▲          lost bytes of dead lanes first  │
//!                          │    │                                          │
//!   read ◄─────────────────┤ in order ◄─ reassembly ◄─ windows ◄─ decoder  │◄── receive
//!                          └──▲───────────────┬──────────────┬─────────────┘
//!                     handle_timeout     poll_event     next_timeout
//! ```
//!
//! # The life of a trunk
//!
//! ```text
//!              a lane greets                 the last ready lane goes
//!  Suspended ───────────────► Carrying ─────────────────────────────► Suspended
//!      │  ▲                      │  ▲                                    │ │
//!      │  └── from the start     │  └──── a lane greets: both ends say ──┘ │
//!      │                         │        what they have, then go on       │
//!      └── grace is over ────────┴── close, CLOSE, violation ──────────────┴──► Closed
//!                                                            every stream is reset
//! ```
//!
//! Those of a lane and of a stream's two directions are drawn in `lane.rs`, `stream/send.rs` and
//! `stream/receive.rs`; all of them, the frames and the bounds are in `docs/trunk.md`.
//!
//! # How to drive it
//!
//! One task per lane writes what [`Trunk::poll_transmit`] gives for it and hands what it reads to
//! [`Trunk::receive`]; one timer follows [`Trunk::next_timeout`]; after every call the driver
//! empties [`Trunk::poll_event`] and wakes the writers of lanes for which [`Trunk::has_output`].
//! A lane that ends in any way but after [`Event::LaneClosed`] is reported with
//! [`Trunk::lane_down`], whether its TLS session was closed or cut: neither ends a stream.
//!
//! # Promises
//!
//! - Bytes written to a stream are read at the other end exactly and in order, whatever lanes die,
//!   or the stream ends with a reset: never with a clean end that is not the writer's.
//! - Memory is bounded: [`Trunk::bytes_held`] by the trunk window, in at most 65,536 pieces, for at
//!   most the streams granted; [`Trunk::memory`] also has what these cost themselves.
//!   [`Trunk::bytes_kept`] is bounded by [`Trunk::most_kept`]. Lengths are checked
//!   before anything is allocated. Pieces that share a read buffer are at least a tenth of it;
//!   smaller ones, and all while 16 MiB are held, are copied.
//! - A stream that is over at both ends leaves nothing behind.
//! - The peer is hostile: what it sends leads to an event, silence, or a [`Violation`].

mod advice;
mod config;
mod decode;
mod encode;
mod error;
mod event;
mod frame;
mod greeting;
mod hello;
mod id;
mod lane;
mod schedule;
mod stream;
mod trunk;

pub use advice::{LaneAdvice, LaneAdvisor, LaneSample};
pub use config::{Config, TrunkLimits};
pub use encode::Transmit;
pub use error::{CloseReason, LaneError, LaneRefusal, OpenError, StreamError, Violation};
pub use event::{Event, Read, ResetCause};
pub use frame::{MAX_DATA, MAX_TARGET, MAX_TEXT, VERSION};
pub use greeting::Greeting;
pub use hello::Hello;
pub use id::{Code, LaneId, StreamId, TrunkId, TrunkSide};
pub use trunk::Trunk;
