//! [`GroupPlan`]: the routers of one group merged into what one executor runs.

use super::{GroupOptions, Matches, Route, Router};
use hashbrown::HashMap;

use crate::{
    dead_letter::{dead_letter_topic, replay_topic},
    error::{Error, ErrorKind},
    name::{Name, validate_name},
    policy::FailurePolicy,
    subscription::{Start, Subscription},
};

/// One group of this process: all its routers merged.
pub(crate) struct GroupPlan {
    pub(crate) subscription: Subscription,
    pub(crate) options: GroupOptions,
    pub(crate) routes: Vec<(Route, FailurePolicy)>,
    pub(crate) topics: Vec<TopicRoutes>,
}

/// Which route a topic's deliveries take, as indices into the plan's routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicRoutes {
    pub(crate) topic: Option<Name>,
    /// The topic whose dead letters this one replays, if it does: further dead letters go to that one's.
    pub(crate) replays: Option<Name>,
    pub(crate) events: Vec<(Name, usize)>,
    pub(crate) message: Option<usize>,
}

impl GroupPlan {
    /// Merges routers by group.
    ///
    /// # Errors
    /// Two handlers for one (group, topic, event), a group without topics or handlers, an invalid name, or options
    /// on which two routers of a group do not agree.
    pub(crate) fn merge(routers: impl IntoIterator<Item = Router>) -> Result<Vec<Self>, Error> {
        let mut plans: Vec<Self> = Vec::new();
        for router in routers {
            let subscription = router.subscription();
            check_router(&router, &subscription)?;
            match plans.iter_mut().find(|plan| plan.subscription.group == subscription.group) {
                Some(plan) => plan.add(router, subscription)?,
                None => {
                    let (options, own) = (router.options.clone(), subscription.topics.clone());
                    let mut plan = Self { subscription, options, routes: Vec::new(), topics: Vec::new() };
                    plan.add_routes(router, &own)?;
                    plans.push(plan);
                }
            }
        }
        plans.iter_mut().for_each(Self::add_replays);
        check_derived(&plans)?;
        Ok(plans)
    }

    /// Subscribes to the replays of the group's own dead letters, for the same handlers.
    fn add_replays(&mut self) {
        let group = self.subscription.group.clone();
        for index in 0..self.topics.len() {
            let routes = self.topics[index].clone();
            let Some(topic) = routes.topic.clone() else { continue };
            let replay = replay_topic(&topic, &group);
            self.subscription.topics.push(replay.clone());
            self.topics.push(TopicRoutes { topic: Some(replay), replays: Some(topic), ..routes });
        }
    }

    fn add(&mut self, router: Router, other: Subscription) -> Result<(), Error> {
        let group = self.subscription.group.clone();
        if self.subscription.start != other.start && other.start != Start::Default {
            if self.subscription.start != Start::Default {
                return Err(conflict(&group, "start at different positions"));
            }
            self.subscription.start = other.start;
        }
        if self.options.on_unhandled != router.options.on_unhandled {
            return Err(conflict(&group, "differ in on_unhandled"));
        }
        let options = &mut self.options;
        options.concurrency = options.concurrency.max(router.options.concurrency);
        options.max_in_flight = options.max_in_flight.max(router.options.max_in_flight);
        options.max_in_flight_bytes = options.max_in_flight_bytes.max(router.options.max_in_flight_bytes);
        options.max_span = options.max_span.max(router.options.max_span);
        self.subscription.max_hold = self.subscription.max_hold.max(other.max_hold);
        self.subscription.requires.extend(other.requires);
        for topic in &other.topics {
            if !self.subscription.topics.contains(topic) {
                self.subscription.topics.push(topic.clone());
            }
        }
        self.add_routes(router, &other.topics)
    }

    fn add_routes(&mut self, router: Router, topics: &[Name]) -> Result<(), Error> {
        let group = self.subscription.group.clone();
        for route in router.routes {
            let index = self.routes.len();
            let policy = route.policy.clone().unwrap_or_else(|| router.options.policy.clone());
            check_batch(&route, &group)?;
            policy.validate(&format!("handler {:?} of group {group:?}", route.matches.label()))?;
            match &route.matches {
                Matches::Event { name } => {
                    for topic in topics {
                        let routes = self.topic(topic);
                        if routes.events.iter().any(|(known, _)| known == name) {
                            return Err(twice(&group, topic, name));
                        }
                        routes.events.push((name.clone(), index));
                    }
                }
                Matches::Message { topic } => {
                    if self.topic(topic).message.replace(index).is_some() {
                        return Err(twice(&group, topic, "messages without a handler of their own"));
                    }
                }
            }
            self.routes.push((route, policy));
        }
        Ok(())
    }

    fn topic(&mut self, topic: &Name) -> &mut TopicRoutes {
        let index = match self.topics.iter().position(|routes| routes.topic.as_ref() == Some(topic)) {
            Some(index) => index,
            None => {
                self.topics.push(TopicRoutes { topic: Some(topic.clone()), ..TopicRoutes::default() });
                self.topics.len() - 1
            }
        };
        &mut self.topics[index]
    }
}

fn check_router(router: &Router, subscription: &Subscription) -> Result<(), Error> {
    let group = &subscription.group;
    validate_name("group", group)?;
    for topic in &subscription.topics {
        validate_name("topic", topic)?;
    }
    let fault = if subscription.topics.is_empty() {
        "subscribes to no topic"
    } else if router.routes.is_empty() {
        "has no handler"
    } else if router.options.concurrency == 0 {
        "has a concurrency of 0"
    } else if router.options.max_in_flight == 0 || router.options.max_in_flight_bytes == 0 {
        "may hold nothing in flight"
    } else if router.options.max_span == 0 {
        "has a max_span of 0"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Config, format!("group {:?} {fault}", group.as_str())))
}

fn check_batch(route: &Route, group: &Name) -> Result<(), Error> {
    let Some(batch) = &route.batch else { return Ok(()) };
    let fault = match route.refused {
        Some(what) => format!("cannot have {what}: that is for handlers of one delivery"),
        None if batch.max == 0 => "may hold no message (max is 0)".to_owned(),
        None => return Ok(()),
    };
    let (handler, group) = (route.matches.label().as_str(), group.as_str());
    Err(Error::new(ErrorKind::Config, format!("batch handler {handler:?} of group {group:?} {fault}")))
}

/// `a` of group `b.c` and `a.b` of group `c` would share their dead letters: refused.
fn check_derived(plans: &[GroupPlan]) -> Result<(), Error> {
    let mut seen: HashMap<Name, (&Name, &Name)> = HashMap::new();
    for plan in plans {
        let group = &plan.subscription.group;
        for topic in
            plan.topics.iter().filter(|routes| routes.replays.is_none()).filter_map(|routes| routes.topic.as_ref())
        {
            let letters = dead_letter_topic(topic, group);
            if let Some((other_topic, other_group)) = seen.insert(letters.clone(), (topic, group)) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "topic {topic:?} of group {group:?} and topic {other_topic:?} of group {other_group:?} would \
                         share the dead-letter topic {letters:?}: rename one"
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn conflict(group: &Name, how: &str) -> Error {
    Error::new(ErrorKind::Config, format!("two routers of group {:?} {how}", group.as_str()))
}

fn twice(group: &Name, topic: &Name, what: &str) -> Error {
    let (group, topic) = (group.as_str(), topic.as_str());
    Error::new(ErrorKind::Config, format!("group {group:?} has two handlers for {what:?} on topic {topic:?}"))
}
