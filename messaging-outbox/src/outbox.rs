//! [`Outbox`]: the tables of one database, and the broker that what is recorded there goes to.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use messaging::{Encoder, Error, ErrorKind, Messaging};
use tokio::sync::Notify;

use crate::{
    database::{Database, Deadlines, Pool, Sql},
    pending::Unsent,
    relay::{self, Relay},
    settings::{OutboxSettings, RelaySettings},
    tx::Tx,
};

const DEFAULT_SHARDS: u32 = 16;

/// Records events in the transactions of one database, for a relay to publish. Cheap to clone; clones share it.
///
/// Open one per database and process: on SQLite its transactions queue for the one writer.
#[derive(Clone)]
pub struct Outbox {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) database: Database,
    pub(crate) encoder: Encoder,
    messaging: OnceLock<Messaging>,
    pub(crate) settings: OutboxSettings,
    pub(crate) shards: u32,
    pub(crate) signals: Signals,
}

/// What a commit tells the relay of the same process, and the relay whoever waits for the end of it all.
pub(crate) struct Signals {
    /// One per shard: there are new rows.
    pub(crate) written: Box<[Notify]>,
    /// A relay is done with rows.
    pub(crate) done: Notify,
    /// Rows that were recorded by this process since the outbox was last seen empty. Begins with one for those of the
    /// processes before.
    pub(crate) unseen: AtomicUsize,
}

impl Outbox {
    /// Opens the outbox of a database: applies its migrations, which any number of replicas may do at once.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is wrong, or differs from what the tables were first used with;
    /// [`ErrorKind::Unavailable`] if the database does not answer.
    pub async fn open(pool: impl Into<Pool>, messaging: &Messaging, settings: OutboxSettings) -> Result<Self, Error> {
        let outbox = Self::open_without_broker(pool, messaging.encoder(), settings).await?;
        outbox.attach(messaging)?;
        Ok(outbox)
    }

    /// The same before there is a connection to the broker: what is recorded waits in the database until one is
    /// [attached](Self::attach) and a relay is started. The encoder is that of the
    /// [configuration](messaging::MessagingConfig::encoder) by which the connection is going to be made.
    ///
    /// Until then the largest message that the broker takes is not known: a larger one is not refused when it is recorded,
    /// but when it is published.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_without_broker(
        pool: impl Into<Pool>,
        encoder: Encoder,
        settings: OutboxSettings,
    ) -> Result<Self, Error> {
        settings.validate()?;
        let deadlines = Deadlines {
            begin: settings.begin_deadline,
            statement: settings.commit_deadline,
            idle: settings.idle_in_transaction,
            lock: settings.lock_timeout,
        };
        let database = Database::new(pool.into(), deadlines);
        database.migrate().await?;
        let shards = fix_shards(&database, settings.shards).await?;
        let signals = Signals {
            written: (0..shards).map(|_| Notify::new()).collect(),
            done: Notify::new(),
            unseen: AtomicUsize::new(1),
        };
        let inner = Inner { database, encoder, messaging: OnceLock::new(), settings, shards, signals };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Says by which connection events go out, once and for all clones.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is one already.
    pub fn attach(&self, messaging: &Messaging) -> Result<(), Error> {
        let second = |_| Error::new(ErrorKind::Config, "outbox: it has a connection to a broker already");
        self.inner.messaging.set(messaging.clone()).map_err(second)?;
        messaging.register_pending(Arc::new(Unsent::new(self)));
        Ok(())
    }

    /// Begins a transaction. On SQLite it waits for the writers before it, in their order.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if there is no connection within the deadline.
    pub async fn begin(&self) -> Result<Tx, Error> {
        Ok(Tx::new(self.clone(), self.inner.database.begin().await?))
    }

    /// Starts a relay in this process. Any number of relays, here and elsewhere, share the shards fairly and take over
    /// those of one that died.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a setting is wrong; [`ErrorKind::Unavailable`] without a connection to the broker;
    /// otherwise what keeps the broker's publisher from being opened.
    pub async fn start_relay(&self, settings: RelaySettings) -> Result<Relay, Error> {
        relay::start(self.clone(), settings).await
    }

    /// The connection that events go out by.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if none is [attached](Self::attach) yet.
    pub fn messaging(&self) -> Result<&Messaging, Error> {
        let missing = || Error::new(ErrorKind::Unavailable, "outbox: there is no connection to the broker yet");
        self.inner.messaging.get().ok_or_else(missing)
    }

    /// Rows were recorded for these shards, or may have been.
    pub(crate) fn written(&self, shards: impl IntoIterator<Item = i64>) {
        for shard in shards {
            if let Some(signal) = usize::try_from(shard).ok().and_then(|shard| self.inner.signals.written.get(shard)) {
                signal.notify_one();
            }
        }
    }

    /// So many rows were recorded, or may have been.
    pub(crate) fn recorded(&self, rows: usize) {
        self.inner.signals.unseen.fetch_add(rows, Ordering::AcqRel);
    }
}

/// The number of shards that the tables have; the first to come says it.
async fn fix_shards(database: &Database, wanted: Option<u32>) -> Result<u32, Error> {
    static OFFER: Sql = Sql::new(
        "INSERT INTO messaging_outbox_settings (name, value) VALUES ('shards', $1) ON CONFLICT (name) DO NOTHING",
    );
    static GET: Sql = Sql::new("SELECT value FROM messaging_outbox_settings WHERE name = 'shards'");
    static LEASE: Sql =
        Sql::new("INSERT INTO messaging_outbox_shards (shard) VALUES ($1) ON CONFLICT (shard) DO NOTHING");
    static LEASES: Sql = Sql::new("SELECT COUNT(*) FROM messaging_outbox_shards");
    let number = |records: Vec<crate::database::Record>| -> Result<i64, Error> {
        let first = records.first().map(|record| record.get::<i64>(0));
        first.unwrap_or(Ok(0)).map_err(|error| crate::database::failed("reading a number", error))
    };
    let mut shards = number(database.read(&GET, Vec::new()).await?)?;
    if shards == 0 {
        database.write(&OFFER, vec![i64::from(wanted.unwrap_or(DEFAULT_SHARDS)).into()]).await?;
        shards = number(database.read(&GET, Vec::new()).await?)?;
    }
    if let Some(wanted) = wanted.filter(|wanted| i64::from(*wanted) != shards) {
        let told = format!("outbox: shards is {wanted}, but the tables were first used with {shards}");
        return Err(Error::new(ErrorKind::Config, told));
    }
    if number(database.read(&LEASES, Vec::new()).await?)? <= shards {
        for shard in -1..shards {
            database.write(&LEASE, vec![shard.into()]).await?;
        }
    }
    u32::try_from(shards).map_err(|_| Error::new(ErrorKind::Config, format!("outbox: there are {shards} shards")))
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("pool", &self.inner.database.pool)
            .field("shards", &self.inner.shards)
            .finish_non_exhaustive()
    }
}
