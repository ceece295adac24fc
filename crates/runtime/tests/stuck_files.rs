//! Files that give no answer use up a limit of the whole process. So these tests have a process of
//! their own.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use renkei_runtime::files::{Budget, run, run_for, run_within};

/// Threads of one budget that may wait for files.
const MOST_STUCK: usize = 16;

/// Uses that give no answer until the sender is dropped.
fn hang(budget: Budget, paths: impl Iterator<Item = PathBuf>) -> Vec<mpsc::Sender<()>> {
    let hang = |path: PathBuf| {
        let (answer, answers) = mpsc::channel::<()>();
        let work = move || {
            let _ = answers.recv();
            Ok(())
        };
        let limit = Duration::from_millis(1);
        run_within(limit, budget, &path, work).unwrap_err();
        answer
    };
    paths.map(hang).collect()
}

#[test]
fn files_that_give_no_answer_leave_those_of_other_uses_readable() {
    let folder = |name| move |at: usize| PathBuf::from(format!("/hung/{name}/{at}"));
    let _bundles = hang(Budget::Folder, (0..MOST_STUCK).map(folder("bundles")));
    let _callers = hang(Budget::Caller, (0..MOST_STUCK).map(folder("callers")));
    let refused = |budget, path| {
        let error = run_for(budget, Path::new(path), || Ok(())).unwrap_err();
        assert!(error.to_string().contains("too many"), "{error}");
    };
    refused(Budget::Folder, "/hung/bundles/next");
    refused(Budget::Caller, "/usr/bin/next");
    for path in ["/state/keys/ca.pem", "/hung/bundle", "/hung/callers/0"] {
        run(Path::new(path), || Ok(())).unwrap();
    }
    run_for(
        Budget::SiteFile,
        Path::new("/hung/bundles/site.yaml"),
        || Ok(()),
    )
    .unwrap();
}
