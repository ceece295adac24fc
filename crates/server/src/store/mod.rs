//! The state folder: a SQLite database, the CA's key files next to it, and a lock that keeps a
//! second server out. Private keys never enter the database.

mod authorities;
mod clock;
mod entries;
mod error;
mod issued;
mod keys;
mod nodes;
mod peers;
mod schema;
mod sites;
#[cfg(test)]
mod suite;
mod traces;

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use renkei_runtime::{files, state_folder::StateFolder};
use renkei_spiffe::TrustDomain;
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use time::OffsetDateTime;
use tokio::time::timeout;

pub use error::{KeyFileError, StoreError};
pub(crate) use {
    authorities::{AuthorityStore, CaRow},
    clock::ClockStore,
    entries::{Attributes, EntrySet, EntrySource, EntryStore, Registered, Registration},
    issued::{IssuedRow, IssuedStore},
    keys::KeyFolder,
    nodes::{AgentRow, NodeStore, TokenRow, TokenUse},
    peers::{PeerRow, PeerStore},
    sites::{SiteRow, SiteStore},
};

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: u32 = 4;
/// How long statements may take that belong together.
const STATEMENT_TIME: Duration = Duration::from_secs(10);
/// How long the checks and changes of the whole database at the start may take: they read all of it.
const START_TIME: Duration = Duration::from_mins(5);
/// How long to wait while every connection waits for the disk.
const ACQUIRE_TIME: Duration = Duration::from_secs(10);
/// The codes SQLITE_CORRUPT and SQLITE_NOTADB, which say that the file is damaged.
const DAMAGE_CODES: [&str; 2] = ["11", "26"];

/// All that a server keeps but its keys. SQLite in the state folder is one; whatever else is to
/// be one must pass the tests in `suite`.
#[async_trait]
pub(crate) trait DataStore:
    AuthorityStore
    + ClockStore
    + EntryStore
    + IssuedStore
    + NodeStore
    + PeerStore
    + SiteStore
    + Send
    + Sync
{
    /// Whose state this is.
    async fn trust_domain(&self) -> Result<TrustDomain, StoreError>;

    /// Where the state is, for messages.
    fn path(&self) -> &Path;

    /// Writes what is pending and closes the store, in bounded time. What its disk does not take
    /// by then is left to its journal.
    async fn close(&self);
}

/// An open state folder.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    database: SqlitePool,
    path: PathBuf,
    keys: KeyFolder,
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens the folder for the one server that writes it, and makes it when it is not there.
    pub(crate) async fn open(
        folder: &Path,
        trust_domain: &TrustDomain,
    ) -> Result<Self, StoreError> {
        let folder = StateFolder::open(folder)?;
        let lock = lock(&folder)?;
        let keys = KeyFolder::open(&folder)?;
        let path = folder.join("renkei.db");
        if is_empty(&path) {
            traces::check_none_beside(folder.path(), &path)?;
        }
        private_file(&path)?;
        let options = options(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let store = Self::connect(options, path, keys, Some(lock)).await?;
        store.check_health().await?;
        store.migrate().await?;
        if store.owner().await?.is_none() {
            traces::check_none(folder.path(), &store.path)?;
        }
        store.claim(trust_domain).await?;
        Ok(store)
    }

    /// Opens the folder for reading, also while a server runs on it.
    pub(crate) async fn open_read_only(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("renkei.db");
        if !files::exists(&path) {
            return Err(StoreError::NotFound { path });
        }
        let options = options(&path).read_only(true);
        Self::connect(options, path, KeyFolder::existing(folder), None).await
    }

    async fn connect(
        options: SqliteConnectOptions,
        path: PathBuf,
        keys: KeyFolder,
        lock: Option<File>,
    ) -> Result<Self, StoreError> {
        check_files(&path)?;
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIME);
        match pool.connect_with(options).await {
            Ok(database) => Ok(Self {
                database,
                path,
                keys,
                _lock: lock,
            }),
            Err(source) => Err(describe(&path, source)),
        }
    }

    async fn check_health(&self) -> Result<(), StoreError> {
        let check = async {
            let check = sqlx::query_scalar("PRAGMA quick_check(1)");
            let verdict = check.fetch_one(&self.database).await;
            verdict.map_err(|error| self.error(error))
        };
        let verdict: String = self.at_start(check).await?;
        if verdict == "ok" {
            return Ok(());
        }
        Err(StoreError::Corrupt {
            path: self.path.clone(),
            reason: verdict,
        })
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let migrate = async {
            let migrated = schema::migrator().run(&self.database).await;
            migrated.map_err(|error| self.migration(error))
        };
        self.at_start(migrate).await
    }

    /// A fresh folder becomes this trust domain's; any other must already be.
    async fn claim(&self, expected: &TrustDomain) -> Result<(), StoreError> {
        self.within(
            sqlx::query(
                "INSERT INTO trust_domain (one, name) VALUES (1, ?) ON CONFLICT DO NOTHING",
            )
            .bind(expected.as_str())
            .execute(&self.database),
        )
        .await?;
        let found = self.trust_domain_name().await?;
        if found == expected.as_str() {
            return Ok(());
        }
        let path = self.path.clone();
        Err(StoreError::ForeignTrustDomain {
            path,
            found,
            expected: expected.clone(),
        })
    }

    /// The trust domain of a folder that was used before.
    async fn owner(&self) -> Result<Option<String>, StoreError> {
        self.within(
            sqlx::query_scalar("SELECT name FROM trust_domain").fetch_optional(&self.database),
        )
        .await
    }

    async fn trust_domain_name(&self) -> Result<String, StoreError> {
        self.within(sqlx::query_scalar("SELECT name FROM trust_domain").fetch_one(&self.database))
            .await
    }

    /// The CA's key files.
    pub(crate) fn keys(&self) -> &KeyFolder {
        &self.keys
    }

    /// What statements bring, in bounded time. SQLite waits for its disk on a thread of its own,
    /// and that may be for ever. A change that gave no answer may still be made later.
    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        let work = async { work.await.map_err(|error| self.error(error)) };
        self.bounded(work).await
    }

    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = timeout(STATEMENT_TIME, work).await;
        done.unwrap_or_else(|_| Err(self.no_answer()))
    }

    async fn at_start<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = timeout(START_TIME, work).await;
        done.unwrap_or_else(|_| Err(self.no_answer()))
    }

    fn no_answer(&self) -> StoreError {
        StoreError::NoAnswer {
            path: self.path.clone(),
        }
    }

    fn error(&self, source: sqlx::Error) -> StoreError {
        describe(&self.path, source)
    }

    fn corrupt(&self, reason: String) -> StoreError {
        StoreError::Corrupt {
            path: self.path.clone(),
            reason,
        }
    }

    fn migration(&self, error: sqlx::migrate::MigrateError) -> StoreError {
        match error {
            sqlx::migrate::MigrateError::Execute(source) => self.error(source),
            other => StoreError::Schema {
                path: self.path.clone(),
                reason: other.to_string(),
            },
        }
    }

    fn time(&self, seconds: i64) -> Result<OffsetDateTime, StoreError> {
        OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|_| self.corrupt(format!("{seconds} is not a time")))
    }
}

#[async_trait]
impl DataStore for SqliteStore {
    async fn trust_domain(&self) -> Result<TrustDomain, StoreError> {
        let name = self.trust_domain_name().await?;
        TrustDomain::parse(&name).map_err(|error| self.corrupt(format!("{name:?}: {error}")))
    }

    fn path(&self) -> &Path {
        &self.path
    }

    async fn close(&self) {
        let closed = self.within(async {
            self.database.close().await;
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::error!(%error, "the database is not closed");
        }
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
}

fn describe(path: &Path, source: sqlx::Error) -> StoreError {
    let path = path.to_owned();
    let damage = source
        .as_database_error()
        .filter(|e| {
            e.code()
                .is_some_and(|code| DAMAGE_CODES.contains(&code.as_ref()))
        })
        .map(|e| e.message().to_owned());
    match damage {
        Some(reason) => StoreError::Corrupt { path, reason },
        None => StoreError::Database {
            path,
            reason: source,
        },
    }
}

/// SQLite gives its journal the mode of the database, so the database is made before it is opened.
fn private_file(path: &Path) -> Result<File, StoreError> {
    let owned = path.to_owned();
    let opened = files::run(path, move || {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        files::open_with(&mut options, &owned)
    });
    opened.map_err(|source| StoreError::Unusable {
        path: path.to_owned(),
        source,
    })
}

/// SQLite would wait for what a FIFO in the place of one of its files never says.
fn check_files(path: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let file = PathBuf::from(name);
        let owned = file.clone();
        let checked = files::run(&file, move || files::check_regular(&owned));
        checked.map_err(|source| StoreError::Unusable { path: file, source })?;
    }
    Ok(())
}

/// Whether a file is missing or has nothing in it.
#[cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "on a thread that may wait")
)]
fn is_empty(path: &Path) -> bool {
    let owned = path.to_owned();
    let found = files::run(path, move || std::fs::metadata(owned));
    // What cannot be read now is reported when it is opened.
    found.map_or_else(
        |error| error.kind() == io::ErrorKind::NotFound,
        |found| found.is_file() && found.len() == 0,
    )
}

fn lock(folder: &StateFolder) -> Result<File, StoreError> {
    let path = folder.join("renkei.lock");
    let file = private_file(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path }),
        Err(TryLockError::Error(source)) => Err(StoreError::Unusable { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn own() -> TrustDomain {
        TrustDomain::parse("osaka.example").unwrap()
    }

    #[tokio::test]
    async fn every_file_is_private_to_the_owner() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let store = SqliteStore::open(&state, &own()).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&state), 0o700);
        for file in fs::read_dir(&state).unwrap().map(|entry| entry.unwrap()) {
            assert_eq!(mode(&file.path()) & 0o077, 0, "{:?}", file.path());
        }
        store.close().await;
    }

    #[tokio::test]
    async fn a_second_server_is_kept_out_and_a_reader_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let first = SqliteStore::open(folder.path(), &own()).await.unwrap();
        let second = SqliteStore::open(folder.path(), &own()).await.unwrap_err();
        assert!(matches!(second, StoreError::InUse { .. }), "{second}");
        let reader = SqliteStore::open_read_only(folder.path()).await.unwrap();
        assert_eq!(reader.trust_domain().await.unwrap(), own());
        drop(first);
        SqliteStore::open(folder.path(), &own()).await.unwrap();
    }

    #[tokio::test]
    async fn another_trust_domains_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(SqliteStore::open(folder.path(), &own()).await.unwrap());
        let other = TrustDomain::parse("tokyo.example").unwrap();
        let error = SqliteStore::open(folder.path(), &other).await.unwrap_err();
        assert!(matches!(error, StoreError::ForeignTrustDomain { .. }));
        assert!(error.to_string().contains("osaka.example"), "{error}");
    }

    #[tokio::test]
    async fn a_damaged_database_is_named_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("renkei.db"),
            "not a database, but long enough".repeat(40),
        )
        .unwrap();
        let error = SqliteStore::open(folder.path(), &own()).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("renkei.db") && text.contains("backup"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_database_that_gives_no_answer_is_an_error_and_can_be_closed() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), &own()).await.unwrap();
        // A statement that waits for as long as a hung disk would let it.
        let mut connections = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut connection = store.database.acquire().await.unwrap();
            let timeout = "PRAGMA busy_timeout = 3600000";
            sqlx::query(timeout)
                .execute(&mut *connection)
                .await
                .unwrap();
            connections.push(connection);
        }
        let other = options(store.path());
        let mut writer = sqlx::ConnectOptions::connect(&other).await.unwrap();
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut writer)
            .await
            .unwrap();
        drop(connections);
        let error = store.set_prepared_aside("1").await.unwrap_err();
        assert!(matches!(error, StoreError::NoAnswer { .. }), "{error}");
        store.close().await;
        sqlx::query("ROLLBACK").execute(&mut writer).await.unwrap();
    }

    #[tokio::test]
    async fn what_reads_the_whole_database_at_the_start_has_more_time_than_a_statement() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), &own()).await.unwrap();
        tokio::time::pause();
        let slow = async || {
            tokio::time::sleep(Duration::from_mins(4)).await;
            Ok(())
        };
        store.at_start(slow()).await.unwrap();
        let statement = store.bounded(slow()).await;
        assert!(matches!(statement, Err(StoreError::NoAnswer { .. })));
    }

    #[tokio::test]
    async fn reading_a_folder_that_was_never_used_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = SqliteStore::open_read_only(folder.path())
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_says_what_to_do() {
        let error = SqliteStore::open(Path::new("/proc/renkei"), &own())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("/proc/renkei") && text.contains("choose another folder"),
            "{text}"
        );
    }
}
