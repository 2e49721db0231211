//! The scripts that run in the server: what must look and act in one step.
//!
//! All but `dead_letter` may run while the server's memory is full: they keep ownership and settle, which is how memory
//! becomes free again.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, RedisResult, Script, aio::MultiplexedConnection};

/// One script; it is called by its hash.
pub(crate) struct Lua {
    code: &'static str,
    script: LazyLock<Script>,
}

/// Joins the parts of a script; the first line tells the server what it may do.
macro_rules! lua {
    ($flags:literal, $($part:literal),+) => {{
        const CODE: &str = concat!("#!lua", $flags, "\n", $(include_str!(concat!("scripts/", $part, ".lua"))),+);
        Lua { code: CODE, script: LazyLock::new(|| Script::new(CODE)) }
    }};
}

pub(crate) static JOIN: Lua = lua!(" flags=allow-oom", "now", "stream", "group", "join");
pub(crate) static ACQUIRE: Lua = lua!(" flags=allow-oom", "now", "acquire");
pub(crate) static OPEN: Lua = lua!(" flags=allow-oom", "fence", "now", "stream", "group", "open");
pub(crate) static RENEW: Lua = lua!(" flags=allow-oom", "fence", "now", "stream", "renew");
pub(crate) static RELEASE: Lua = lua!(" flags=allow-oom", "fence", "stream", "release");
pub(crate) static SETTLE: Lua = lua!(" flags=allow-oom", "fence", "settle");
pub(crate) static CLAIM: Lua = lua!(" flags=allow-oom", "fence", "claim");
pub(crate) static DEAD_LETTER: Lua = lua!("", "fence", "dead_letter");
pub(crate) static ANNOUNCE: Lua = lua!(" flags=allow-oom", "now", "announce");
pub(crate) static TRIM: Lua = lua!(" flags=allow-oom", "now", "stream", "trim");

static ALL: [&Lua; 10] = [&JOIN, &ACQUIRE, &OPEN, &RENEW, &RELEASE, &SETTLE, &CLAIM, &DEAD_LETTER, &ANNOUNCE, &TRIM];

impl Lua {
    /// Begins a call with these keys; arguments follow.
    pub(crate) fn call(&self, keys: &[&str]) -> Cmd {
        let mut cmd = Cmd::new();
        cmd.arg("EVALSHA").arg(self.script.get_hash()).arg(keys.len()).arg(keys);
        cmd
    }
}

/// Loads every script, so that a call by hash finds it.
pub(crate) async fn load(conn: &mut MultiplexedConnection) -> RedisResult<()> {
    let mut pipe = Pipeline::with_capacity(ALL.len());
    for script in ALL {
        pipe.cmd("SCRIPT").arg("LOAD").arg(script.code);
    }
    pipe.exec_async(conn).await
}
