//! The moment that was last agreed on by the clocks, so that the next start can judge its own.

use async_trait::async_trait;
use renkei_runtime::clock::{Moment, Record};
use time::{Duration, OffsetDateTime};

use super::{SqliteStore, StoreError};

type Columns = (i64, i64, String, Option<i64>, Option<i64>);

/// The record of the clock.
#[async_trait]
pub(crate) trait ClockStore {
    /// What the last server left; else the newest time on record, if there is one.
    async fn clock_record(&self) -> Result<Option<Record>, StoreError>;

    /// Keeps a record in place of the one before.
    async fn keep_clock(&self, record: &Record) -> Result<(), StoreError>;
}

#[async_trait]
impl ClockStore for SqliteStore {
    async fn clock_record(&self) -> Result<Option<Record>, StoreError> {
        let row: Option<Columns> = self
            .within(
                sqlx::query_as("SELECT wall_ms, boot_ms, boot_id, followed, believed FROM clock")
                    .fetch_optional(&self.database),
            )
            .await?;
        let Some((wall_ms, boot_ms, boot_id, followed, believed)) = row else {
            return self.newest_time().await;
        };
        let wall = self.time(wall_ms.div_euclid(1_000))?;
        let wall = wall + Duration::milliseconds(wall_ms.rem_euclid(1_000));
        Ok(Some(Record {
            moment: Moment {
                wall,
                boot: Duration::milliseconds(boot_ms),
            },
            boot_id,
            followed: followed.map(|at| self.time(at)).transpose()?,
            believed: believed.map(|at| self.time(at)).transpose()?,
        }))
    }

    async fn keep_clock(&self, record: &Record) -> Result<(), StoreError> {
        let wall_ms = record.moment.wall.unix_timestamp_nanos() / 1_000_000;
        let boot_ms = record.moment.boot.whole_milliseconds();
        self.within(
            sqlx::query(
                "INSERT INTO clock (one, wall_ms, boot_ms, boot_id, followed, believed)
             VALUES (1, ?, ?, ?, ?, ?)
             ON CONFLICT (one) DO UPDATE SET wall_ms = excluded.wall_ms,
                 boot_ms = excluded.boot_ms, boot_id = excluded.boot_id,
                 followed = excluded.followed, believed = excluded.believed",
            )
            .bind(i64::try_from(wall_ms).unwrap_or(i64::MAX))
            .bind(i64::try_from(boot_ms).unwrap_or(i64::MAX))
            .bind(&record.boot_id)
            .bind(record.followed.map(OffsetDateTime::unix_timestamp))
            .bind(record.believed.map(OffsetDateTime::unix_timestamp))
            .execute(&self.database),
        )
        .await
        .map(|_| ())
    }
}

impl SqliteStore {
    /// A database of a release that kept no such record still has times in it.
    async fn newest_time(&self) -> Result<Option<Record>, StoreError> {
        let newest: Option<i64> = self
            .within(
                sqlx::query_scalar(
                    "SELECT max(at) FROM (SELECT max(not_before) AS at FROM authorities
             UNION ALL SELECT max(issued_at) FROM issued
             UNION ALL SELECT max(fetched_at) FROM peer_bundles)",
                )
                .fetch_one(&self.database),
            )
            .await?;
        let record = |wall: OffsetDateTime| Record {
            moment: Moment {
                wall,
                boot: Duration::ZERO,
            },
            boot_id: String::new(),
            followed: None,
            believed: None,
        };
        Ok(newest.map(|at| self.time(at)).transpose()?.map(record))
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::{fixtures::own, store::IssuedStore};

    #[tokio::test]
    async fn a_record_comes_back_and_without_one_the_newest_time_counts() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path(), &own()).await.unwrap();
        assert_eq!(store.clock_record().await.unwrap(), None);
        let wall = datetime!(2026-11-30 12:00:00.5 UTC);
        let issued = crate::store::IssuedRow {
            serial: "1".to_owned(),
            id: crate::fixtures::id("collector"),
            not_before: wall,
            not_after: wall,
            issued_at: wall,
        };
        store.record_issued(&issued).await.unwrap();
        let newest = store.clock_record().await.unwrap().unwrap();
        assert_eq!(newest.moment.wall, datetime!(2026-11-30 12:00 UTC));
        assert_eq!(newest.boot_id, "");
        let record = Record {
            moment: Moment {
                wall,
                boot: Duration::days(3),
            },
            boot_id: "a run".to_owned(),
            followed: Some(datetime!(2026-11-01 0:00 UTC)),
            believed: Some(datetime!(2026-11-02 0:00 UTC)),
        };
        for _ in 0..2 {
            store.keep_clock(&record).await.unwrap();
            assert_eq!(store.clock_record().await.unwrap(), Some(record.clone()));
        }
    }
}
