//! The next connection of a listener, whatever happens to the others.

use std::{future::Future, io, time::Duration};

/// Pause after the system refused a connection (for want of descriptors, mostly).
const PAUSE: Duration = Duration::from_millis(100);

/// The next connection that `next` gives: `accept("the bundle endpoint", || listener.accept())`.
/// Errors of single connections are skipped; a shortage is logged and waited out.
pub async fn accept<T, F>(what: &str, mut next: impl FnMut() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        match next().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "{what} cannot accept connections; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn neither_a_shortage_nor_a_lost_connection_ends_it() {
        let shortage = rustix::io::Errno::MFILE.raw_os_error();
        let mut results = vec![
            Ok(7),
            Err(io::Error::from_raw_os_error(shortage)),
            Err(io::ErrorKind::ConnectionAborted.into()),
        ];
        let next = || std::future::ready(results.pop().expect("a result"));
        assert_eq!(accept("a listener", next).await, 7);
        assert!(results.is_empty());
    }
}
