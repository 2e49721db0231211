//! What a user of the access control list must be allowed, and the check at start that it is.
//!
//! A user cannot ask what it may do without rights of their own. So each command is tried in a form that the server
//! refuses for its arguments, which it looks at only after the rights: `NOPERM` tells what is missing, and nothing is
//! changed.
//!
//! All keys of a topic begin with `{topic:`, `{topic}` or, for its dead letters, `{topic.`, so that `~{orders[:.}]*` is a
//! key pattern for `orders`. As rules for `ACL SETUSER`:
//!
//! - to publish, and for topics: `+xadd +multi +exec +wait +xinfo +xrange +xrevrange +xpending +xtrim +xlen +set
//!   +hsetnx +hgetall +evalsha +script|load +info +client|id +time`
//! - to consume, also: `+xreadgroup +xack +xautoclaim +xgroup|create +xgroup|setid +hget +hmget +hset +hdel
//!   +client|kill +client|unblock`

use messaging::{Error, ErrorKind};
use redis::{Cmd, Pipeline, Value};

use crate::link::SharedLink;

/// What a publisher needs.
pub(crate) const PUBLISHING: &[&[&str]] = &[
    &["XADD", "STREAM", "?", "f", "v"],
    &["MULTI"],
    &["EXEC"],
    &["WAIT", "?", "1"],
    &["XTRIM", "STREAM", "?", "?"],
    &["SET", "STREAM.trim", "1", "?"],
    &["XINFO", "GROUPS", "STREAM"],
    &["XINFO", "STREAM", "STREAM"],
    &["XPENDING", "STREAM", "?"],
    &["XLEN", "STREAM"],
    &["TIME"],
];

/// What a member of a group needs beside that.
pub(crate) const CONSUMING: &[&[&str]] = &[
    &["XREADGROUP", "GROUP", "?", "?", "STREAMS", "STREAM", "?"],
    &["XACK", "STREAM", "?", "?"],
    &["XAUTOCLAIM", "STREAM", "?", "?", "?", "0"],
    &["XGROUP", "CREATE", "STREAM", "GROUP", "?"],
    &["XGROUP", "SETID", "STREAM", "GROUP", "?"],
    &["HGET", "STREAM.GROUP.lease", "?"],
    &["HMGET", "STREAM.GROUP.lease", "?"],
    &["HSET", "STREAM.GROUP.lease", "f", "v", "?"],
    &["HGETALL", "MEMBERS"],
    &["HDEL", "MEMBERS", "?"],
    &["XADD", "STREAM.GROUP.dlq", "?", "f", "v"],
    &["CLIENT", "KILL", "ID", "?"],
    &["CLIENT", "UNBLOCK", "?"],
];

/// Tries what a publisher needs, before it is known which topics it will publish to.
///
/// # Errors
/// [`ErrorKind::Config`], naming the commands that the user may not run.
pub(crate) async fn check_publishing(link: &SharedLink) -> Result<(), Error> {
    let nowhere = Keys { stream: "{}", group: "", members: "{}" };
    // Whether it may use the keys shows with the first message.
    try_all(link, PUBLISHING, &nowhere, |details| details.contains("to run the")).await
}

/// The keys that the commands are tried on.
pub(crate) struct Keys<'a> {
    pub(crate) stream: &'a str,
    pub(crate) group: &'a str,
    pub(crate) members: &'a str,
}

impl Keys<'_> {
    fn fill(&self, part: &str) -> String {
        if part == "MEMBERS" {
            return self.members.to_owned();
        }
        let group = part.replace("GROUP", self.group);
        group.replace("STREAM", self.stream)
    }
}

/// Tries every command.
///
/// # Errors
/// [`ErrorKind::Config`], naming what the user may not do.
pub(crate) async fn check(link: &SharedLink, commands: &[&[&str]], keys: &Keys<'_>) -> Result<(), Error> {
    try_all(link, commands, keys, |_| true).await
}

async fn try_all(
    link: &SharedLink,
    commands: &[&[&str]],
    keys: &Keys<'_>,
    counts: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let mut pipe = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipe.add_command(trial(command, keys));
    }
    let answers = link.pipeline("checking what the user may do", &pipe).await?;
    let mut missing: Vec<String> = Vec::new();
    for answer in answers {
        if let Value::ServerError(error) = answer
            && error.code() == "NOPERM"
        {
            missing.push(error.details().unwrap_or("a command").to_owned());
        }
    }
    missing.retain(|details| counts(details));
    if missing.is_empty() {
        return Ok(());
    }
    missing.dedup();
    let user = link.config().user.as_deref().unwrap_or("default");
    Err(Error::new(ErrorKind::Config, format!("rights of the redis user {user:?} are missing: {}", missing.join("; "))))
}

fn trial(command: &[&str], keys: &Keys<'_>) -> Cmd {
    // The name and what belongs to it stand as they are; keys come where the parts are in capitals further on.
    let fixed = match command[0] {
        "XREADGROUP" => 5,
        "XGROUP" | "XINFO" | "CLIENT" => 2,
        _ => 1,
    };
    let mut cmd = Cmd::new();
    for (index, part) in command.iter().enumerate() {
        match index < fixed {
            true => cmd.arg(*part),
            false => cmd.arg(keys.fill(part)),
        };
    }
    cmd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_tried_on_the_keys_they_will_be_used_on() {
        let keys = Keys { stream: "{t:0}", group: "g", members: "{t}.g.members" };
        let of = |command: &[&str]| String::from_utf8(trial(command, &keys).get_packed_command()).unwrap();
        assert!(of(CONSUMING[0]).contains("STREAMS\r\n$5\r\n{t:0}"));
        assert!(of(&["HGET", "STREAM.GROUP.lease", "?"]).contains("{t:0}.g.lease"));
        assert!(of(&["XGROUP", "CREATE", "STREAM", "GROUP", "?"]).contains("{t:0}\r\n$1\r\ng\r\n"));
    }
}
