//! What is said before the bundle of a peer ends.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use super::*;

/// What is logged in this thread.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&lines).into_owned()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        io::Write::write(&mut *lines, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_bundle_without_a_successor_is_warned_of_once_and_well_before_its_end() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || writer.clone())
        .finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let warnings = || {
        let text = lines.text();
        let warnings = text
            .lines()
            .filter(|line| line.contains("the peer's bundle expires"));
        warnings.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut lab = Lab::new().await;
    let bundle = tokyo_bundle(1);
    let end = bundle.end().unwrap();
    let file = BundleSource::File(lab.write("tokyo.json", &bundle.to_document()));
    lab.set_clock(end.overdue_from() - time::Duration::MINUTE);
    lab.peer(file.clone()).round().await;
    assert_eq!(warnings(), [""; 0], "a newer one may still come in time");

    lab.set_clock(end.overdue_from() + time::Duration::SECOND);
    let mut peer = lab.peer(file);
    peer.round().await;
    peer.round().await;
    let said = warnings();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("tokyo.example") && said[0].contains("WARN"),
        "{said:?}"
    );
    assert!(said[0].contains(&end.not_after.to_string()), "{said:?}");
    // A newer one ends the matter.
    let newer = Bundle {
        sequence: Some(2),
        ..bundle_of(&TestAuthority::new("tokyo.example"), 2)
    };
    assert!(newer.end().unwrap().not_after >= end.not_after);
}
