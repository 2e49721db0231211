//! [`Sql`]: one text per statement, with the few words in which the dialects differ left open.

use std::sync::OnceLock;

/// A statement for both dialects. Placeholders are `$1`, `$2` and so on; open words are:
///
/// - `{now}`: microseconds since 1970 by the database's clock, as it is when the statement runs;
/// - `{in $2}`: is one of the list `$2`;
/// - `{watched}`: the lists `$1` and `$2` side by side, as columns `shard` and `seen`;
/// - `{skip locked}`: rows that somebody else is changing are passed over;
/// - `{unflushed}`: a condition that holds, and lets the commit not wait for the disk.
pub(crate) struct Sql {
    template: &'static str,
    #[cfg(feature = "postgres")]
    postgres: OnceLock<String>,
    #[cfg(feature = "sqlite")]
    sqlite: OnceLock<String>,
}

impl Sql {
    pub(crate) const fn new(template: &'static str) -> Self {
        Self {
            template,
            #[cfg(feature = "postgres")]
            postgres: OnceLock::new(),
            #[cfg(feature = "sqlite")]
            sqlite: OnceLock::new(),
        }
    }

    #[cfg(feature = "postgres")]
    pub(super) fn postgres(&'static self) -> &'static str {
        self.postgres.get_or_init(|| {
            lists(self.template, |list| format!("= ANY({list})"))
                .replace("{now}", "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
                .replace("{watched}", "UNNEST($1, $2) AS w (shard, seen)")
                .replace("{skip locked}", "FOR UPDATE SKIP LOCKED")
                .replace("{unflushed}", "(SELECT set_config('synchronous_commit', 'off', true)) = 'off'")
        })
    }

    #[cfg(feature = "sqlite")]
    pub(super) fn sqlite(&'static self) -> &'static str {
        self.sqlite.get_or_init(|| {
            lists(self.template, |list| format!("IN (SELECT value FROM json_each({list}))"))
                .replace("{now}", "CAST(unixepoch('subsec') * 1000000 AS INTEGER)")
                .replace(
                    "{watched}",
                    "(SELECT s.value AS shard, l.value AS seen FROM json_each($1) s JOIN json_each($2) l ON l.key = s.key) AS w",
                )
                .replace("{skip locked}", "")
                .replace("{unflushed}", "1 = 1")
        })
    }
}

fn lists(template: &str, is_one_of: impl Fn(&str) -> String) -> String {
    let mut text = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{in ") {
        let (list, after) = after.split_once('}').unwrap_or((after, ""));
        text.push_str(before);
        text.push_str(&is_one_of(list));
        rest = after;
    }
    text + rest
}
