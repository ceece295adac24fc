//! The frame of a Renkei process: what every role needs to start, to be watched and to stop.
//!
//! - [`drain`]: one way to end work in progress: a signal, a deadline, then force.
//! - [`process`]: who a local process is.
//! - [`attest`]: which selectors hold for a process.
//! - [`readiness`]: named conditions; the process is ready when all of them hold.
//! - [`telemetry`]: logs to standard error and the registry of metrics.
//! - [`accept`]: the next connection of a listener.
//! - [`admin`]: metrics, liveness and readiness over HTTP on a loopback address.
//! - [`backoff`]: how long to wait after failures.
//! - [`clock`]: the time that the process acts by.
//! - [`control`]: commands to a running process over a unix socket that only its user may open.
//! - [`files`]: files that cannot stop the process.
//! - [`http1`]: the accept loop of small HTTP servers, every resource bounded.
//! - [`signals`], [`systemd`]: messages of the system to the process, and of the process to the system.
//! - [`exposure`]: who else may change a site's files, or read the memory of the process.
//! - [`shares`]: a bounded number of places, of which no holder can take all.
//! - [`state_folder`]: a private folder for keys and databases.
//! - [`supervise`]: tasks that are to run as long as the process.
//! - [`unix_socket`]: unix sockets that this process serves.
//! - [`memory`]: how much memory, and how many open files, the process may have.
//!
//! This crate knows no role: it never issues, proxies or decides.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

pub mod accept;
pub mod admin;
pub mod attest;
pub mod backoff;
pub mod clock;
pub mod control;
pub mod drain;
pub mod exposure;
pub mod files;
pub mod http1;
pub mod memory;
pub mod process;
pub mod readiness;
pub mod shares;
pub mod signals;
pub mod state_folder;
pub mod supervise;
pub mod systemd;
pub mod telemetry;
pub mod unix_socket;
