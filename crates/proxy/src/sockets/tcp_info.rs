//! What the kernel says of a connection (`TCP_INFO`, tcp(7)): whether it is open, and whether
//! buffers hold it back.

use std::{os::fd::AsRawFd, time::Duration};

use nix::libc;
use renkei_trunk::LaneSample;
use tokio::net::TcpStream;

/// More than any kernel has.
const SIZE: usize = 512;

/// Where fields stand in `struct tcp_info` (include/uapi/linux/tcp.h), which only grows at its end.
const STATE: usize = 0;
const UNACKED: usize = 24;
const RTT: usize = 68;
const TOTAL_RETRANS: usize = 100;
const BYTES_ACKED: usize = 120;
const NOTSENT_BYTES: usize = 144;
const MIN_RTT: usize = 148;
const RWND_LIMITED: usize = 176;
const SNDBUF_LIMITED: usize = 184;

/// States of a socket whose other end may still send, or has sent its last byte in order
/// (include/net/tcp_states.h).
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
/// The state of one that sends nothing any more.
const CLOSED: u8 = 7;

/// Whether an accepted connection was neither reset nor ended from here.
pub(crate) fn is_open(connection: &impl AsRawFd) -> bool {
    let mut info = [0; SIZE];
    let length = read(connection, &mut info).unwrap_or(0);
    let state = info.get(..length).and_then(|info| info.get(STATE));
    matches!(state, Some(&(ESTABLISHED | CLOSE_WAIT)))
}

/// Totals of a connection since its beginning.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TcpInfo {
    acked: u64,
    notsent: u64,
    rwnd_limited: Duration,
    sndbuf_limited: Duration,
    round_trip: Duration,
    least_round_trip: Duration,
    pub(crate) retransmitted: u64,
}

impl TcpInfo {
    /// Of a connection; of one that has none, nothing.
    pub(crate) fn of(connection: &TcpStream) -> Option<Self> {
        let mut info = [0; SIZE];
        let length = read(connection, &mut info)?;
        let info = info.get(..length)?;
        Some(Self {
            acked: number(info, BYTES_ACKED)?,
            notsent: u64::from(short(info, NOTSENT_BYTES)?),
            rwnd_limited: Duration::from_micros(number(info, RWND_LIMITED)?),
            sndbuf_limited: Duration::from_micros(number(info, SNDBUF_LIMITED)?),
            round_trip: Duration::from_micros(u64::from(short(info, RTT)?)),
            least_round_trip: Duration::from_micros(u64::from(short(info, MIN_RTT)?)),
            retransmitted: u64::from(short(info, TOTAL_RETRANS)?),
        })
    }

    /// What is on its way to the peer, or waits: grows smaller as the peer acknowledges it, and is
    /// nothing once it has all of it, or never will.
    pub(crate) fn undelivered(connection: &TcpStream) -> u64 {
        let mut info = [0; SIZE];
        let Some(info) = read(connection, &mut info).and_then(|length| info.get(..length)) else {
            return 0;
        };
        if info.get(STATE) == Some(&CLOSED) {
            return 0;
        }
        let parts = [short(info, UNACKED), short(info, NOTSENT_BYTES)];
        parts.into_iter().flatten().map(u64::from).sum()
    }

    /// Whether segments were ever lost, so that its window is not what a new connection's is.
    pub(crate) fn has_lost(&self) -> bool {
        self.retransmitted > 0
    }

    /// What happened since an earlier look.
    pub(crate) fn since(&self, earlier: &Self) -> LaneSample {
        LaneSample {
            goodput: self.acked.saturating_sub(earlier.acked),
            sndbuf_limited: self.sndbuf_limited.saturating_sub(earlier.sndbuf_limited),
            rwnd_limited: self.rwnd_limited.saturating_sub(earlier.rwnd_limited),
            notsent: self.notsent,
            round_trip: self.round_trip,
            least_round_trip: self.least_round_trip,
            retransmitted: self.retransmitted.saturating_sub(earlier.retransmitted),
        }
    }
}

#[expect(
    unsafe_code,
    reason = "no library reads this option; the kernel writes at most the length given"
)]
fn read(connection: &impl AsRawFd, info: &mut [u8; SIZE]) -> Option<usize> {
    let mut length = libc::socklen_t::try_from(SIZE).ok()?;
    // SAFETY: the descriptor is open while `connection` is borrowed, and both pointers are to
    // memory of this call's own, of the length that the kernel gets.
    let failed = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (failed == 0).then(|| usize::try_from(length).ok())?
}

fn short(info: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*info.get(at..)?.first_chunk()?))
}

fn number(info: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*info.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    #[test]
    fn a_connection_is_open_until_it_is_reset_and_not_only_until_its_other_end_closes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = || {
            let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (near, listener.accept().unwrap().0)
        };
        let (near, far) = connection();
        assert!(is_open(&far));
        near.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(is_open(&far));
        let (mut near, far) = connection();
        near.write_all(b"left behind").unwrap();
        let reset = socket2::SockRef::from(&near);
        reset.set_linger(Some(Duration::ZERO)).unwrap();
        drop(near);
        // A program that another test starts has a copy of the socket until it runs.
        while is_open(&far) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[tokio::test]
    async fn the_kernel_tells_what_the_peer_has_and_what_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let before = TcpInfo::of(&near).unwrap();
        let mut near = near.into_std().unwrap();
        near.write_all(&[7; 5000]).unwrap();
        far.read_exact(&mut [0; 5000]).await.unwrap();
        // The other end does not read now: the window closes and the rest waits here.
        while near.write(&[7; 65536]).is_ok() {}
        let near = TcpStream::from_std(near).unwrap();
        let sample = || TcpInfo::of(&near).unwrap().since(&before);
        let held_up = || sample().rwnd_limited > Duration::ZERO && sample().notsent > 0;
        crate::testing::until("the window has closed", held_up).await;
        let sample = sample();
        assert!(sample.goodput >= 5000, "{sample:?}");
        assert!(sample.round_trip > Duration::ZERO, "{sample:?}");
        let least = sample.least_round_trip;
        assert!(
            least > Duration::ZERO && least <= sample.round_trip,
            "{sample:?}"
        );
    }
}
