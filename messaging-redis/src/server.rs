//! [`Server`]: what `INFO` tells about a server, and whether messages may be entrusted to it.

use messaging::{Error, ErrorKind};

use crate::config::Durability;

/// The oldest version whose streams count what was added and read.
const FLOOR: (u32, u32) = (7, 0);

/// A server as it describes itself.
pub(crate) struct Server {
    /// Names this run of the server's process.
    pub(crate) run: String,
    version: String,
    mode: String,
    append_only: bool,
    loading: bool,
    eviction: String,
    max_memory: u64,
}

impl Server {
    /// Reads the answer to `INFO`.
    pub(crate) fn parse(info: &str) -> Self {
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        Self {
            run: field("run_id"),
            version: field("redis_version"),
            mode: field("redis_mode"),
            append_only: field("aof_enabled") == "1",
            loading: field("loading") == "1",
            eviction: field("maxmemory_policy"),
            max_memory: field("maxmemory").parse().unwrap_or(0),
        }
    }

    /// Refuses a server on which the contract cannot be kept.
    pub(crate) fn check(&self, durability: Durability) -> Result<(), Error> {
        if self.loading {
            // Until then it also says that it has no append-only file.
            return Err(Error::new(ErrorKind::Unavailable, "the server has started and is loading its data"));
        }
        let mut numbers = self.version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let refuse = |reason: String| Err(Error::new(ErrorKind::Unsupported, reason));
        if version < FLOOR {
            return refuse(format!("redis {} is too old: 7.0 is the least", self.version));
        }
        if self.mode == "cluster" || self.mode == "sentinel" {
            return refuse(format!("the server runs in {} mode, which is not supported", self.mode));
        }
        if durability == Durability::Memory {
            return Ok(());
        }
        if !self.append_only {
            return refuse(
                "the server keeps no append-only file, so that confirmed messages would be lost with its process: start \
                 it with `appendonly yes`, or say `durability=memory`"
                    .to_owned(),
            );
        }
        if self.max_memory > 0 && self.eviction.starts_with("allkeys") {
            return refuse(format!(
                "the server evicts any key when its memory is full (maxmemory-policy {}), also streams: set \
                 `maxmemory-policy noeviction`, or say `durability=memory`",
                self.eviction
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(changes: &[(&str, &str)]) -> Server {
        let mut info = "redis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc\r\naof_enabled:1\r\n\
                        loading:0\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"
            .to_owned();
        for (from, to) in changes {
            info = info.replace(from, to);
        }
        Server::parse(&info)
    }

    #[test]
    fn a_server_that_keeps_an_append_only_file_will_do() {
        assert!(server(&[]).check(Durability::Disk).is_ok());
        assert_eq!(server(&[]).run, "abc");
    }

    #[test]
    fn one_that_is_loading_is_asked_again_later() {
        let loading = server(&[("loading:0", "loading:1"), ("aof_enabled:1", "aof_enabled:0")]);
        assert!(loading.check(Durability::Disk).unwrap_err().is_transient());
    }

    #[test]
    fn what_breaks_the_contract_is_refused_by_name() {
        for (change, named) in [
            (("7.0.15", "6.2.7"), "6.2.7"),
            (("standalone", "cluster"), "cluster"),
            (("aof_enabled:1", "aof_enabled:0"), "appendonly"),
        ] {
            let error = server(&[change]).check(Durability::Disk).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
        let evicting = server(&[("maxmemory:0", "maxmemory:100"), ("noeviction", "allkeys-lru")]);
        assert!(evicting.check(Durability::Disk).unwrap_err().to_string().contains("allkeys-lru"));
        assert!(evicting.check(Durability::Memory).is_ok());
        assert!(server(&[("aof_enabled:1", "aof_enabled:0")]).check(Durability::Memory).is_ok());
    }
}
