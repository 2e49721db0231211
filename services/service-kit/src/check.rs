//! What `--check-config` looks at beyond the settings themselves: whether the broker has what they ask of it.

use messaging::{Backend, Capability, ErrorKind, Messaging, MessagingConfig, Router};

use crate::BoxFuture;
use crate::broker;
use crate::process::StartError;
use crate::settings::{Environment, Origin, Setting, SettingError, TopicSettings};

/// What a program would do, a line each.
pub type Findings = Vec<String>;

/// Each setting with its value, or without if that may hold a secret, and where it comes from.
///
/// # Errors
/// A value is not UTF-8.
pub fn settings(environment: &Environment, settings: &[Setting]) -> Result<Findings, SettingError> {
    let width = settings.iter().map(|setting| setting.name().len()).max().unwrap_or_default();
    let line = |setting: &Setting| {
        let origin = environment.origin(*setting)?;
        let text = environment.text(*setting)?;
        let value = match text.as_deref().or(setting.default_text()) {
            Some(_) if setting.is_secret() => "(not shown)".to_owned(),
            Some(text) => text.to_owned(),
            None => "-".to_owned(),
        };
        let from = if origin == Origin::Unset { String::new() } else { format!("  ({origin})") };
        Ok(format!("{:width$}  {value}{from}", setting.name()))
    };
    settings.iter().map(line).collect()
}

/// Connects to the broker, and tells what it can do and how its topics agree with the settings file. A broker that cannot
/// be reached is told of, and is no error: whoever checks a configuration may stand outside of its network.
///
/// # Errors
/// The address is wrong, or a topic is there with another number of partitions.
pub fn broker<'a>(
    config: &'a MessagingConfig,
    backends: Vec<Box<dyn Backend>>,
    topics: &'a [TopicSettings],
) -> BoxFuture<'a, Result<(Findings, Option<Messaging>), StartError>> {
    Box::pin(async move {
        let address = config.address();
        let messaging = match broker::connect(config, backends).await {
            Ok(messaging) => messaging,
            Err(StartError::Messaging(error)) if !is_wrong(&error) => {
                let reason = crate::process::with_causes(&error);
                let found = format!("the broker {address} was not reached, so nothing is checked with it: {reason}");
                let wanted = topics.iter().map(|topic| format!("topic {}: {topic}", topic.name));
                return Ok(([found].into_iter().chain(wanted).collect(), None));
            }
            Err(error) => return Err(error),
        };
        let capabilities = messaging.capabilities();
        let (has, lacks): (Vec<_>, Vec<_>) = Capability::ALL.into_iter().partition(|one| capabilities.has(*one));
        let mut found =
            vec![format!("broker {address}, which can: {}", names(&has)), format!("it lacks: {}", names(&lacks))];
        for topic in topics {
            found.push(agrees(&messaging, topic).await?);
        }
        Ok((found, Some(messaging)))
    })
}

/// Whether the groups of these routers have what they require of the broker.
///
/// # Errors
/// A capability is missing; the error names it and the group.
pub fn groups(messaging: &Messaging, routers: Vec<Router>) -> Result<Findings, StartError> {
    let told = |router: &Router| {
        let subscription = router.subscription();
        let topics = subscription.topics.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let requires = names(&subscription.requires);
        format!("group {} of topics {topics}, which requires: {requires}", subscription.group)
    };
    let found = routers.iter().map(told).collect();
    messaging.check(routers)?;
    Ok(found)
}

/// How a topic stands against its description.
async fn agrees(messaging: &Messaging, topic: &TopicSettings) -> Result<String, StartError> {
    let TopicSettings { name, spec } = topic;
    let there = messaging.admin().describe(name).await?;
    match there.map(|info| info.partitions) {
        None => Ok(format!("topic {name}: would be made with {topic}")),
        Some(there) if there == spec.partitions => Ok(format!("topic {name}: is there with {there} partitions")),
        Some(there) => {
            let reason = format!("{} are set, but it is there with {there}", spec.partitions);
            Err(SettingError::new(format!("topics.{name}.partitions"), reason).into())
        }
    }
}

/// Whether an error says that the settings are wrong, rather than that something was away.
fn is_wrong(error: &messaging::Error) -> bool {
    matches!(error.kind(), ErrorKind::Config | ErrorKind::Unsupported)
}

fn names(capabilities: &[Capability]) -> String {
    match capabilities {
        [] => "nothing of note".to_owned(),
        some => some.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", "),
    }
}
